"""Tests of `exporter/client/`."""
