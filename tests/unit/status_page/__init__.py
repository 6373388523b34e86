"""Tests of the status page, without a server."""
