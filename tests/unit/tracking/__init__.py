"""Tests of `exporter/tracking/`."""
