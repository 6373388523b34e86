"""What all simulated clouds share: serving, recording, faults, limits."""
