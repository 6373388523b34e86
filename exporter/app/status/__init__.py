"""The command `status`: compute what to print from a /metrics page."""
