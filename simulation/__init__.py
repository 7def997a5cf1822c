"""A seeded city that drives the stand-in platforms: for the demo, for load and for faults."""
