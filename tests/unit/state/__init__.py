"""Tests of `exporter/state/`."""
