"""Tests of `exporter/simulator/`."""
