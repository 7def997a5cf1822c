"""Jietong (接通): events that a city's platforms share, each lost never and acted on once."""

__version__ = "0.3.0"
