"""Tests of `exporter/auth/`."""
