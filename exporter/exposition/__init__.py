"""From views to pages: rendered when something changed, never at a scrape, and of a change only what it changed."""

from exporter.exposition.page import Body, Exposition, Variant, own_series
from exporter.exposition.render import Format

__all__ = ["Body", "Exposition", "Format", "Variant", "own_series"]
