"""Tests of `exporter/metrics/`."""
