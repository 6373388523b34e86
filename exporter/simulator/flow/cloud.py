"""A simulated Alibaba Cloud Yunxiao Flow: both generations of the vendor's API on top of a world of pipelines.

The demo, end-to-end tests and benchmarks run on it without an account. It follows the vendor's documentation and
observed responses. Where these are silent or contradict each other, a switch selects the behavior.
"""

import time
from collections.abc import Callable
from dataclasses import replace

from starlette.requests import Request

from exporter.simulator.flow import errors
from exporter.simulator.flow.auth_check import FlowCredentials
from exporter.simulator.flow.generation import ApiGeneration, Operation
from exporter.simulator.flow.organization import Organization
from exporter.simulator.flow.personal import ROOT, PersonalApi
from exporter.simulator.flow.serialized import serialize, summarize
from exporter.simulator.flow.signed import ORGANIZATION, SignedApi
from exporter.simulator.flow.switches import FlowSwitches
from exporter.simulator.flow.vocabulary import status_text
from exporter.simulator.http.answers import Answer, InjectedFault
from exporter.simulator.http.cloud import Cloud
from exporter.simulator.http.recorder import RequestContext
from exporter.simulator.world.project import RunSource
from exporter.simulator.world.runs import RunSnapshot
from exporter.simulator.world.world import SimulatedPipeline, World

RUN_PAGE = "RunPage"

_PAGES = "/pipelines/"
"""Path prefix of the console's run pages, which need no credentials."""


class Flow(Cloud, FlowSwitches):
    """A simulated Flow that serves `world` as an organization; run `app`, and authenticate with `credentials`.

    The runs come from `runs`, by default from the world. Ids of pipelines are numbers here, and ids of runs are their
    run numbers. One port serves both generations of the API, and both editions of the personal one. In addition to the
    members of every cloud, a test in the same process can use:

    - `credentials`: the valid ones; replacing them, as by a rotation, invalidates the old ones.
    - `organization_id`: the organization in the paths.
    """

    def __init__(
        self,
        world: World,
        credentials: FlowCredentials | None = None,
        *,
        clock: Callable[[], float] = time.time,
        runs: RunSource | None = None,
    ) -> None:
        super().__init__(world, clock, runs)
        self.credentials = credentials or FlowCredentials()
        organization = Organization(self._project, self)
        self.organization_id = organization.id
        self._numbers = organization.numbers
        self._signed = SignedApi(organization, self, self._current_credentials, self._throttle_wait)
        self._personal = PersonalApi(organization, self, self._current_credentials, self._throttle_wait)
        self.app = self._application(
            *(
                self._route(
                    "GET",
                    root + operation.path,
                    operation.name,
                    generation.handler_for(operation),
                    generation.authorize,
                )
                for generation in (self._signed, self._personal)
                for root in generation.roots
                for operation in generation.operations()
            ),
            *(
                self._route("GET", f"{_PAGES}{path}", operation.name, self._personal.handler_for(operation))
                for path, operation in (
                    ("{pipeline_id}/current", Operation("", RUN_PAGE, self._personal.get_latest_run)),
                    ("{pipeline_id}/builds/{run_id}", Operation("", RUN_PAGE, self._personal.get_run)),
                )
            ),
        )

    def serves(self, path: str) -> bool:
        """Return whether Flow handles requests for a path, including paths that it does not publish."""
        return path.startswith((ROOT, ORGANIZATION, _PAGES))

    def pipeline_id(self, pipeline_id: str) -> str:
        """Return Flow's id of a pipeline of the world; raise `KeyError` for an unknown one."""
        pipeline = self.world.pipeline(pipeline_id)
        if pipeline is None:
            raise KeyError(pipeline_id)
        return str(self._numbers.of(pipeline))

    def _summarized(self, run: RunSnapshot) -> RunSnapshot:
        return summarize(run)

    def _reported(self, pipeline: SimulatedPipeline, run: RunSnapshot, now: float) -> RunSnapshot:
        reported = serialize(pipeline, run, now, self.end_lag).run
        return replace(reported, id=str(run.number), custom_status=status_text(reported))

    def _current_credentials(self) -> FlowCredentials:
        return self.credentials

    def _generation(self, request: Request) -> ApiGeneration:
        return self._personal if request.scope["path"].startswith(ROOT) else self._signed

    # -- errors in the vendor's form

    def _not_published(self, request: Request, context: RequestContext) -> Answer:
        generation = self._generation(request)
        error = errors.NO_PATH if generation is self._personal else errors.NO_API
        return generation.gateway_error(error, request, context)

    def _too_large(self, request: Request, context: RequestContext) -> Answer:
        return self._generation(request).gateway_error(errors.TOO_LARGE, request, context)

    def _fault_answer(
        self, injected_fault: InjectedFault, request: Request, context: RequestContext
    ) -> Answer | None:
        return self._generation(request).fault_answer(injected_fault, request, context)
