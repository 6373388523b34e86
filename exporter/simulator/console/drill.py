"""Troubles that can be planned for simulated clouds, so that an operator can rehearse incidents."""

import enum
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from exporter.simulator.http.answers import InjectedFault
from exporter.simulator.http.cloud import Cloud


class Trouble(enum.StrEnum):
    """Kind of a trouble; its value is the name that flags and forms use."""

    OUTAGE = "outage"
    THROTTLING = "throttling"
    EXPIRED_TOKEN = "expired-token"  # noqa: S105  # a name
    LOST_MEMBERSHIP = "lost-membership"
    SLOW = "slow"
    BAD_RECORDS = "bad-records"

    @property
    def meaning(self) -> str:
        """What the clouds do in this trouble."""
        return _MEANINGS[self]


_MEANINGS = {
    Trouble.OUTAGE: "Every request gets 502 or 503 without a body, or a connection reset, in turn.",
    Trouble.THROTTLING: "Every request is refused by the throttle of the vendor, with a time to wait of 5 s.",
    Trouble.EXPIRED_TOKEN: "Tokens are refused as expired, access keys as deleted or disabled.",
    Trouble.LOST_MEMBERSHIP: "The user is no longer a member: CodeArts lists nothing and finds no project, Flow refuses.",
    Trouble.SLOW: "Each answer takes 8 to 11 s, so that one in three exceeds the default poll.timeout of 10 s.",
    Trouble.BAD_RECORDS: "The records of one pipeline in 25 are malformed.",
}

# Both were seen from serializers of real services; neither is JSON.
_BAD_VALUES = (b"NaN", b"undefined")
_BAD_ONE_IN = 25


class Drill:
    """Schedule of one trouble for a set of clouds.

    `update` begins and ends the trouble when due, by switches of the clouds; call it before each request.
    """

    def __init__(self, clouds: Sequence[Cloud], clock: Callable[[], float]) -> None:
        self._clouds = clouds
        self._clock = clock
        self._restore: list[tuple[Cloud, Mapping[str, Any]]] = []
        self.trouble: Trouble | None = None
        self.begins = 0.0
        """When the trouble begins or began, in Unix seconds."""
        self.ends: float | None = None
        """When the trouble ends, in Unix seconds; None if it lasts until `stop`."""

    @property
    def active(self) -> bool:
        """Whether the clouds have the trouble now."""
        return bool(self._restore)

    def plan(self, trouble: Trouble, after: float = 0.0, duration: float | None = None) -> None:
        """Begin a trouble `after` seconds from now, for `duration` seconds or until `stop`; it replaces any other."""
        self.stop()
        self.trouble = trouble
        self.begins = self._clock() + after
        self.ends = None if duration is None else self.begins + duration
        self.update()

    def stop(self) -> None:
        """End the current trouble, or cancel the planned one."""
        for cloud, switches in self._restore:
            _set(cloud, switches)
        self._restore = []
        self.trouble = None

    def update(self) -> None:
        """Begin or end the trouble if that is due."""
        if self.trouble is None:
            return
        now = self._clock()
        if self.ends is not None and now >= self.ends:
            self.stop()
        elif now >= self.begins and not self.active:
            for cloud in self._clouds:
                switches = _switches(self.trouble, cloud)
                self._restore.append((cloud, {name: getattr(cloud, name) for name in switches}))
                _set(cloud, switches)


def _set(cloud: Cloud, switches: Mapping[str, Any]) -> None:
    for name, value in switches.items():
        setattr(cloud, name, value)


def _switches(trouble: Trouble, cloud: Cloud) -> dict[str, Any]:
    """Return the switches, by name, that cause a trouble in a cloud."""
    match trouble:
        case Trouble.OUTAGE:
            return {"outage": True}
        case Trouble.THROTTLING:
            return {"injected_fault": InjectedFault.THROTTLED, "retry_after": True}
        case Trouble.EXPIRED_TOKEN:
            return {"credentials_expired": True}
        case Trouble.LOST_MEMBERSHIP:
            return {"no_membership": True}
        case Trouble.SLOW:
            return {"latency": 8.0, "latency_jitter": 3.0}
        case Trouble.BAD_RECORDS:
            return {"bad_records": _bad_records(cloud)}


def _bad_records(cloud: Cloud) -> dict[str, bytes]:
    """Return a malformed value for one in `_BAD_ONE_IN` of the pipelines that have run, by pipeline id."""
    now = cloud.clock()
    ran = [one.id for one in cloud.world.pipelines if cloud.world.latest_start(one.id, now) is not None]
    affected = ran[::_BAD_ONE_IN]
    return {pipeline: _BAD_VALUES[index % len(_BAD_VALUES)] for index, pipeline in enumerate(affected)}
