"""Both simulated clouds on one port, as no vendor has them: told apart by their paths."""

from starlette.types import ASGIApp, Receive, Scope, Send

from exporter.simulator.codearts.cloud import CodeArts
from exporter.simulator.flow import Flow


def together(codearts: CodeArts, flow: Flow) -> ASGIApp:
    """Return an app that answers for both; what is below no path of Flow goes to the other."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await (flow if flow.answers(scope["path"]) else codearts).app(scope, receive, send)

    return app
