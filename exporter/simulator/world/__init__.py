"""Simulated pipelines and their runs, computed from a seed and the time."""
