"""Application: assemble, start, reload and stop the exporter, and run its commands."""
