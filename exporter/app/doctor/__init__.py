"""The command `doctor`: check what works with each provider and what is missing, for the first use of a cloud."""
