"""Requests to the clouds: authentication, retries, rate limits, connections."""
