"""Render views to metrics pages, after polls instead of at scrapes, and only what has changed."""

from exporter.exposition.page import Body, Exposition, Variant, own_series
from exporter.exposition.render import Format

__all__ = ["Body", "Exposition", "Format", "Variant", "own_series"]
