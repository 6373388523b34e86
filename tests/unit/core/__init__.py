"""Tests of `exporter/core/`."""
