"""The status page: what the exporter sees, for people and as JSON."""
