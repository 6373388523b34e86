"""Everything that is sent to a cloud: signatures, retries, request budget, connections."""
