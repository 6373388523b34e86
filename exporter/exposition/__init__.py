"""Render the /metrics page after polls instead of at scrapes, and only the parts that have changed."""

from exporter.exposition.page import PROMETHEUS, Body, Exposition, OwnSeries, Variant
from exporter.exposition.render import Format

__all__ = ["PROMETHEUS", "Body", "Exposition", "Format", "OwnSeries", "Variant"]
