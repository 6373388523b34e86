"""Start, stop and wire the program."""
