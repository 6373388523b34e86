"""Shared drivers: what several test files use to drive the exporter from outside."""
