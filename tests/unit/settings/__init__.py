"""Tests of `exporter/settings/`."""
