"""Tests of `exporter/providers/`."""
