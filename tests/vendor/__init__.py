"""Programs that run in the environments of the vendors' SDKs, away from the exporter's own packages."""
