"""Tests of `exporter/app/`."""
