"""Benchmarks of the exporter; README.md explains methods and results."""
