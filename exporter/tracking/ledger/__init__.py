"""The ledger: every run is counted exactly once.

Pure functions take the known state and an answer, and return the new state and the events to count.
"""

from exporter.tracking.ledger.rules import (
    APART,
    LedgerUpdate,
    apply_history,
    apply_latest,
    apply_lookup,
    history_unavailable,
)
from exporter.tracking.ledger.search import RUNS, Reach, Search, search
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
from exporter.tracking.ledger.streak import KEPT

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
