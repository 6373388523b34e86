"""Every run accounted exactly once: pure functions from what was known and what was seen to what is known and counted."""

from exporter.tracking.ledger.rules import (
    APART,
    KEPT,
    RUNS,
    LedgerUpdate,
    Reach,
    Search,
    apply_history,
    apply_latest,
    apply_lookup,
    history_unavailable,
    search,
)
from exporter.tracking.ledger.state import (
    EndedRun,
    Event,
    EventKind,
    Gap,
    InitialScan,
    LedgerState,
    OpenRun,
    Streak,
)

__all__ = [
    "APART",
    "KEPT",
    "RUNS",
    "EndedRun",
    "Event",
    "EventKind",
    "Gap",
    "InitialScan",
    "LedgerState",
    "LedgerUpdate",
    "OpenRun",
    "Reach",
    "Search",
    "Streak",
    "apply_history",
    "apply_latest",
    "apply_lookup",
    "history_unavailable",
    "search",
]
