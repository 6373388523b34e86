"""Tests of `exporter/config/`."""
