"""A simulated Alibaba Cloud Yunxiao Flow: both generations of the vendor's API on top of a world of pipelines.

It exists so that the exporter can be shown, tested end to end and measured without an account. No live service stood
model: it answers in the shapes that the vendor documents and that others have seen, and where these contradict each
other, or say nothing, a switch has each reading.
"""

import time
from collections.abc import Callable

from starlette.requests import Request

from exporter.simulator.flow import errors
from exporter.simulator.flow.credentials import FlowCredentials
from exporter.simulator.flow.generation import Generation
from exporter.simulator.flow.organization import Organization
from exporter.simulator.flow.personal import ROOT, Personal
from exporter.simulator.flow.signed import ORGANIZATION, Signed
from exporter.simulator.flow.switches import FlowSwitches
from exporter.simulator.http.answers import Good
from exporter.simulator.http.cloud import Cloud
from exporter.simulator.http.faults import InjectedFault
from exporter.simulator.http.recorder import RequestContext
from exporter.simulator.world.project import Runs
from exporter.simulator.world.world import World


class Flow(Cloud, FlowSwitches):
    """The cloud: serve `app`, then ask it about the organization of `world` with `credentials`.

    Its pipelines have the runs that the world has destined, or those of `runs`, a story of the same world; their ids
    here are numbers, and those of runs are their numbers. Both generations answer on the same port, and of the personal
    one both editions. Besides what every cloud has, a test in the same process has:

    - `credentials`: may be replaced at any time, as a rotation does; what was valid before is so no more.
    - `organization_id`: the organization that the paths name.
    """

    def __init__(
        self,
        world: World,
        credentials: FlowCredentials | None = None,
        *,
        clock: Callable[[], float] = time.time,
        runs: Runs | None = None,
    ) -> None:
        super().__init__(world, clock, runs)
        self.credentials = credentials or FlowCredentials()
        organization = Organization(self._project, self)
        self.organization_id = organization.id
        self._numbers = organization.numbers
        self._signed = Signed(organization, self, self._valid, self._wait)
        self._personal = Personal(organization, self, self._valid, self._wait)
        self.app = self._application(
            *(
                self._publish(
                    "GET",
                    root + operation.path,
                    operation.name,
                    generation.answering(operation),
                    generation.guard,
                )
                for generation in (self._signed, self._personal)
                for root in generation.roots
                for operation in generation.operations()
            )
        )

    def answers(self, path: str) -> bool:
        """Tell whether a path is one of Flow's, published or not."""
        return path.startswith((ROOT, ORGANIZATION))

    def pipeline_id(self, pipeline_id: str) -> str:
        """Tell the id here of the pipeline that has the given one in the world; `KeyError` if there is none."""
        pipeline = self.world.pipeline(pipeline_id)
        if pipeline is None:
            raise KeyError(pipeline_id)
        return str(self._numbers.of(pipeline))

    def _valid(self) -> FlowCredentials:
        return self.credentials

    def _generation(self, request: Request) -> Generation:
        return self._personal if request.scope["path"].startswith(ROOT) else self._signed

    # -- the words for what goes wrong

    def _not_published(self, request: Request, context: RequestContext) -> Good:
        generation = self._generation(request)
        no = errors.NO_PATH if generation is self._personal else errors.NO_API
        return generation.refused(no, request, context)

    def _too_large(self, request: Request, context: RequestContext) -> Good:
        return self._generation(request).refused(errors.TOO_LARGE, request, context)

    def _spoken(
        self, injected_fault: InjectedFault, request: Request, context: RequestContext
    ) -> Good | None:
        return self._generation(request).spoken(injected_fault, request, context)
