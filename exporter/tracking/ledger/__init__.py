"""The ledger: every run is counted exactly once.

Pure functions take the known state and a response, and return the new state and the events to count.
"""

from exporter.tracking.ledger.read_back import NOTHING, Coverage
from exporter.tracking.ledger.rules import (
    APART,
    LedgerUpdate,
    apply_history,
    apply_latest,
    apply_lookup,
    history_unavailable,
)
from exporter.tracking.ledger.search import RUNS, YEAR, Reach, Search, search
from exporter.tracking.ledger.state import (
    EndedRun,
    Event,
    EventKind,
    Extent,
    Gap,
    InitialScan,
    LedgerState,
    OpenRun,
    Streak,
)
from exporter.tracking.ledger.streak import KEPT, known_streak, needs_read_back, waiting_recovery

__all__ = [
    "APART",
    "KEPT",
    "NOTHING",
    "RUNS",
    "YEAR",
    "Coverage",
    "EndedRun",
    "Event",
    "EventKind",
    "Extent",
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
    "known_streak",
    "needs_read_back",
    "search",
    "waiting_recovery",
]
