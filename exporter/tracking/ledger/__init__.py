"""Every run accounted exactly once: pure functions from what was known and what was seen to what is known and counted."""

from exporter.tracking.ledger.rules import (
    APART,
    KEPT,
    RUNS,
    Outcome,
    Reach,
    Search,
    account,
    fill,
    learn,
    search,
    unread,
)
from exporter.tracking.ledger.state import Count, Ended, Event, Gap, Open, Series, State, Survey

__all__ = [
    "APART",
    "KEPT",
    "RUNS",
    "Count",
    "Ended",
    "Event",
    "Gap",
    "Open",
    "Outcome",
    "Reach",
    "Search",
    "Series",
    "State",
    "Survey",
    "account",
    "fill",
    "learn",
    "search",
    "unread",
]
