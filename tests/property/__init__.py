"""Property tests of the whole exporter."""
