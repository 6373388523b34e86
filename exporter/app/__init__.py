"""What starts, stops and wires the program."""
