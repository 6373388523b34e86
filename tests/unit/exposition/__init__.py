"""Tests of `exporter/exposition/`."""
