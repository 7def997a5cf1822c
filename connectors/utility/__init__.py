"""A utility operator's own system (供水, 排水, 供电, 供气, 通信, 有线电视): one program and one consumer group each."""
