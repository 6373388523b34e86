"""Render views to metrics pages, after polls instead of at scrapes, and only what has changed."""

from exporter.exposition.page import PROMETHEUS, Body, Exposition, OwnSeries, Variant
from exporter.exposition.render import Format

__all__ = ["PROMETHEUS", "Body", "Exposition", "Format", "OwnSeries", "Variant"]
