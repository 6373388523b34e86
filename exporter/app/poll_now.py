"""Pass the poll requests of clients (`POST /-/poll`) to the poller of their project."""

from collections.abc import Callable, Iterable

from exporter.polling.poller import Poller


class PollNow:
    """Accepts poll requests for the pipelines of all projects."""

    def __init__(self, pollers: Callable[[], Iterable[Poller]]) -> None:
        """`pollers` returns the current pollers."""
        self._pollers = pollers

    def watches(self, project: str, pipeline_id: str) -> bool:
        """Return whether the exporter polls this pipeline of a project."""
        poller = self._poller(project)
        return poller is not None and poller.watches(pipeline_id)

    def request(self, project: str, pipeline_id: str) -> bool:
        """Request an immediate poll of a watched pipeline. Return False if one was requested too recently."""
        poller = self._poller(project)
        return poller is not None and poller.request_poll(pipeline_id)

    def _poller(self, project: str) -> Poller | None:
        return next((one for one in self._pollers() if one.project == project), None)
