"""Programs that run in separate environments with the vendors' SDKs."""
