"""Metrics about pipelines: the catalogue of families, by subject."""
