"""The metrics of the exporter about itself."""
