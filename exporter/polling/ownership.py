"""Which project watches a pipeline that several projects of the configuration find."""

from collections.abc import Hashable


class OwnershipRegistry:
    """Owner of each pipeline: the project that lists it by id, otherwise the earliest one that discovers it."""

    def __init__(self) -> None:
        self._owners: dict[Hashable, tuple[bool, int]] = {}

    def take(self, pipeline: Hashable, project: int, *, discovered: bool) -> bool:
        """Claim a pipeline for the project at an index of the configuration; return True if the project owns it now."""
        claim = (discovered, project)
        owner = min(claim, self._owners.get(pipeline, claim))
        self._owners[pipeline] = owner
        return owner == claim

    def free(self, pipeline: Hashable, project: int) -> bool:
        """Return True if a project that discovers a pipeline may own it, as far as known."""
        claim = (True, project)
        return self._owners.get(pipeline, claim) >= claim

    def leave(self, pipeline: Hashable, project: int) -> None:
        """Give up a pipeline that a project has discovered, so that another one may own it."""
        if self._owners.get(pipeline) == (True, project):
            del self._owners[pipeline]
