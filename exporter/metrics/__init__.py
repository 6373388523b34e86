"""The catalogue of metrics about pipelines."""
