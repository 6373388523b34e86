"""Tests of `exporter/polling/`."""
