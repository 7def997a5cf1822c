"""How fast and how small it is: ratios within one run on one machine, never a limit that a test asserts."""
