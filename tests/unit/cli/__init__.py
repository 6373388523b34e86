"""Tests of `exporter/cli/`."""
