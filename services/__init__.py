"""Programs of one shape: the domain in plain functions, its tables, and the wiring in `__main__`."""
