"""Set of the pipelines that need attention. Most of the time, most pipelines do not, and most work can skip them."""

from collections.abc import Iterable, Iterator
from typing import Generic, Protocol, TypeVar

from exporter.core.model import Pipeline


class _Tracker(Protocol):
    pipeline: Pipeline

    @property
    def needs_attention(self) -> bool: ...


T = TypeVar("T", bound=_Tracker)


class AttentionSet(Generic[T]):
    """Contains at least every pipeline that needs attention.

    Every method that changes a tracker must call `touch`. `prune` removes those that no longer need attention.
    """

    def __init__(self) -> None:
        self.members: dict[str, T] = {}
        """Trackers by pipeline id. Read only; public because loops over thousands cannot afford a call for each."""

    def __iter__(self) -> Iterator[T]:
        return iter(self.members.values())

    def touch(self, tracker: T) -> None:
        """Add a tracker that is about to change."""
        self.members[tracker.pipeline.id] = tracker

    def prune(self) -> None:
        """Remove the trackers that do not need attention."""
        self.reset(self.members.values())

    def reset(self, trackers: Iterable[T]) -> None:
        """Replace all members by those of the given trackers that need attention."""
        self.members = {tracker.pipeline.id: tracker for tracker in trackers if tracker.needs_attention}
