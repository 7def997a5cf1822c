"""Programs of one shape: a platform's tables, what reads or writes them, its stand-in, and the wiring in `__main__`."""
