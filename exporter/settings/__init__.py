"""Settings of the exporter: their types, defaults, JSON Schema, and the loading of a configuration file."""
