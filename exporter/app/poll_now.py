"""Pass requests for polls to the poller of their project."""

from collections.abc import Callable, Iterable

from exporter.polling.poller import Poller


class PollNow:
    """Requests for polls of all projects."""

    def __init__(self, pollers: Callable[[], Iterable[Poller]]) -> None:
        """`pollers` returns the present pollers."""
        self._pollers = pollers

    def watches(self, project: str, pipeline_id: str) -> bool:
        """Return True if a pipeline of a project is polled."""
        poller = self._poller(project)
        return poller is not None and poller.watches(pipeline_id)

    def request(self, project: str, pipeline_id: str) -> bool:
        """Poll a pipeline that is polled anyway now; return False if it was requested too recently."""
        poller = self._poller(project)
        return poller is not None and poller.request_poll(pipeline_id)

    def _poller(self, project: str) -> Poller | None:
        return next((one for one in self._pollers() if one.project == project), None)
