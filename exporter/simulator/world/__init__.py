"""Simulated pipelines and their runs, a pure function of a seed and the time."""
