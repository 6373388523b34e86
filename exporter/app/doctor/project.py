"""The checks of one project, in the order of their dependencies: the first fault is the cause of later ones.

Requests are read-only, and follow the same rules as polls: one request until the credentials are accepted, none after a
rejection. No more requests are sent once all of them would fail for the same reason.
"""

import asyncio
import math
from collections.abc import Sequence
from typing import TypeVar

import msgspec

from exporter.app.doctor.checks import Check, CheckState, Name, entry, failed, fault, ok, warning
from exporter.app.doctor.estimates import estimates
from exporter.app.doctor.network import check_network
from exporter.client.api_client import ApiClient, ApiError, ApiResponse
from exporter.client.exchange import Exchange
from exporter.core.clock import Clock
from exporter.core.failures import FailureKind
from exporter.core.model import Run
from exporter.polling.discovery import PAGES
from exporter.providers.protocol import (
    AnyProvider,
    ApiRequest,
    Decoded,
    KnowsRetention,
    PageCursor,
    SupportsBatchQuery,
)
from exporter.providers.registry import AnyProject
from exporter.settings.settings import Config

CLOCK = 30.0
"""Seconds that the clocks may differ without a warning."""
SAMPLES = 100
"""Maximum number of pipelines whose run lists are read, if the provider has no batch request."""
BATCH_SAMPLES = 5
"""The same where batches show them, or where the provider is slow."""
_ANSWER_KINDS = frozenset({FailureKind.TRANSIENT, FailureKind.THROTTLED, FailureKind.UNREADABLE})
_SHOWN = 10

T = TypeVar("T", bound=Decoded)


class ProjectDoctor:
    """Examines one project."""

    def __init__(
        self, config: Config, project: AnyProject, provider: AnyProvider, api: ApiClient, clock: Clock
    ) -> None:
        self._config = config
        self._project = project
        self._provider = provider
        self._api = api
        self._clock = clock
        self._checks: dict[Name, Check] = {}
        self.exchanges: list[Exchange] = []
        """Everything that was received."""
        self._clock_difference: float | None = None
        self._watched_pipelines: int | None = None
        self._complete = True
        """Whether every row of the provider's list could be read."""
        self._rejected = 0
        self._first_rejection = ""
        api.observer = self._observe

    def _observe(self, exchange: Exchange) -> None:
        if self._clock_difference is None and exchange.date is not None:
            self._clock_difference = exchange.date - self._clock.time()
        self.exchanges.append(exchange)

    def _add(self, check: Check) -> None:
        self._checks[check.check] = check

    async def examine(self) -> list[Check]:
        """Return the checks of the project, as far as they could be made."""
        timeout = self._config.poll.timeout
        for check in await check_network(
            self._project, self._project.base_url, timeout=timeout, now=self._clock.time()
        ):
            self._add(check)
        if not any(check.state is CheckState.FAULT for check in self._checks.values()):
            await self._examine_provider()
        for check in estimates(self._config, self._project, self._watched_pipelines):
            self._add(check)
        found = [self._checks[name] for name in Name if name in self._checks]
        return [msgspec.structs.replace(check, project=self._project.name) for check in found]

    async def _examine_provider(self) -> None:
        names: dict[str, str] | None
        try:
            names = await self._list()
        except ApiError as error:
            names = None
            self._record_first(error)
            if error.failure.kind is not FailureKind.PROJECT or error.failure.membership:
                return
        else:
            self._record_first(None)
            self._add(ok(Name.PERMISSION, "the user may list pipelines"))
        if not await self._membership(names):
            return
        watched = self._watched(names or {})
        await self._batch(watched)
        await self._run(watched)
        self._records()

    # The first request: response, clock, credentials, permission

    async def _list(self) -> dict[str, str]:
        """Return the names of all pipelines in the provider's list, by id."""
        names: dict[str, str] = {}
        cursor = PageCursor()
        while cursor.pages < PAGES:
            answer = await self._api.send(self._provider.pipelines_request(cursor))
            page = self._count(self._provider.read_pipelines(answer.body, answer.now, answer.headers))
            if not page.rows or (page.pipelines and names.keys() >= page.pipelines.keys()):
                break
            names |= page.pipelines
            self._complete = self._complete and not page.incomplete
            cursor = cursor.after(page)
            if page.last:
                break
        return names

    def _count(self, decoded: T) -> T:
        """Count the records of a response that could not be read."""
        self._rejected += len(decoded.rejected) + sum(decoded.further_rejected.values())
        if decoded.rejected and not self._first_rejection:
            self._first_rejection = decoded.rejected[0][1]
        return decoded

    def _record_first(self, error: ApiError | None) -> None:
        """Record what the result of the first request says."""
        self._record_clock()
        kind = error.failure.kind if error is not None else None
        if error is not None and not self.exchanges:
            # The credentials come from an issuer or a file, and none could be obtained.
            self._add(failed(Name.CREDENTIALS, error))
            return
        if error is not None and kind in _ANSWER_KINDS:
            self._add(failed(Name.ANSWER, error))
            return
        self._record_latency()
        if error is not None and kind in {FailureKind.CREDENTIALS, FailureKind.NOT_SENT}:
            self._add(failed(Name.CREDENTIALS, error))
            return
        self._add(ok(Name.CREDENTIALS, f"{self._project.auth.method} was accepted"))
        if error is not None and not error.failure.membership:
            self._add(failed(Name.PERMISSION, error))
        elif error is not None:
            self._add(failed(Name.MEMBERSHIP, error))

    def _record_clock(self) -> None:
        difference = self._clock_difference
        if difference is None:
            return
        detail = f"the provider's clock is {abs(difference):.0f} s {'ahead' if difference > 0 else 'behind'}"
        if abs(difference) <= CLOCK:
            self._add(ok(Name.CLOCK, detail))
        else:
            remedy = f"synchronize the clock of this machine (NTP); {entry('clock-differs')}"
            self._add(warning(Name.CLOCK, detail, remedy))

    def _record_latency(self) -> None:
        slowest = max(one.seconds for one in self.exchanges)
        timeouts = sum(one.code == "timeout" for one in self.exchanges)
        timeout = self._config.poll.timeout
        detail = f"the slowest of {len(self.exchanges)} requests took {slowest:.2f} s"
        if slowest <= timeout / 2:
            self._add(ok(Name.ANSWER, detail))
            return
        late = f", {timeouts} had no answer within poll.timeout" if timeouts else ""
        self._add(
            warning(
                Name.ANSWER,
                f"{detail}{late}; poll.timeout is {timeout:g} s",
                f"raise poll.timeout, or check network and proxy; {entry('no-response')}",
            )
        )

    # The project

    async def _membership(self, names: dict[str, str] | None) -> bool:
        """Check that the user is a member of the project. Return whether further requests make sense.

        `names` are the listed pipelines; None if the list was refused.
        """
        if names:
            self._add(ok(Name.MEMBERSHIP, "the project lists pipelines to this user"))
            return True
        # An empty or refused list proves nothing: a user who is not a member may get an empty list.
        configured = [one.id for one in self._project.pipelines]
        try:
            if isinstance(self._provider, SupportsBatchQuery):
                await self._api.send(self._provider.batch_request(configured[:1] or ["0" * 32]))
            elif configured:
                await self._api.send(self._provider.runs_request(configured[0], PageCursor(), 1))
        except ApiError as error:
            if error.failure.membership:
                self._add(failed(Name.MEMBERSHIP, error))
                return False
            if error.failure.kind is not FailureKind.CONTENT:
                self._add(failed(Name.PERMISSION, error))
                return False
        if names is None:
            # Only the list is refused. Configured pipelines can be polled.
            refused = self._checks[Name.PERMISSION]
            report = warning if configured else fault
            self._add(report(Name.PERMISSION, refused.detail, refused.remedy))
            return bool(configured)
        self._add(
            warning(
                Name.MEMBERSHIP,
                "the list of pipelines is empty: providers list nothing to users who are not members",
                f"compare {self._project.scope_key}, and add the user to the project; "
                f"{entry('no-pipelines-listed')}",
            )
        )
        return bool(configured)

    def _watched(self, names: dict[str, str]) -> list[str]:
        """Check the ids to watch against the provider's list. Return them without unknown ones."""
        configured = [one.id for one in self._project.pipelines]
        unknown = [identity for identity in configured if identity not in names] if self._complete else []
        discovery = self._project.discovery
        selected = [one for one, name in names.items() if discovery is not None and discovery.matches(name)]
        watched = list(dict.fromkeys((*configured, *selected)))
        self._watched_pipelines = len(watched)
        if unknown and names:
            more = f", and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else ""
            self._add(
                warning(
                    Name.PIPELINES,
                    f"{len(unknown)} of {len(configured)} configured ids are not listed: "
                    f"{', '.join(unknown[:_SHOWN])}{more}",
                    f"correct or remove them; {entry('pipelines-not-listed')}",
                )
            )
        elif names and not watched:
            self._add(
                warning(
                    Name.PIPELINES,
                    f"discover selects none of {len(names)} pipelines",
                    f"correct the patterns; {entry('pattern-selects-nothing')}",
                )
            )
        elif names:
            self._add(ok(Name.PIPELINES, f"{len(names)} are listed, {len(watched)} are watched"))
        return [one for one in watched if one not in unknown] if names else watched

    def _records(self) -> None:
        if not self._rejected:
            self._add(ok(Name.RECORDS, "every record could be read"))
            return
        self._add(
            warning(
                Name.RECORDS,
                f"{self._rejected} records could not be read: {self._first_rejection}",
                f"report them with the file of --report; {entry('record-rejected')}",
            )
        )

    async def _batch(self, watched: Sequence[str]) -> None:
        """Check how many pipelines the provider accepts in one request."""
        provider = self._provider
        if not isinstance(provider, SupportsBatchQuery) or not watched:
            return
        ids = watched[: self._config.poll.chunk_size]
        wanted, refusal = len(ids), ""
        while True:
            try:
                answer = await self._api.send(provider.batch_request(ids))
            except ApiError as error:
                kind, half = error.failure.kind, math.ceil(len(ids) / 2)
                if kind is FailureKind.UNREADABLE:
                    self._rejected += 1
                    self._first_rejection = self._first_rejection or error.failure.message
                    ids = ids[half:]
                    if not ids:
                        return
                elif kind is FailureKind.CONTENT and len(ids) > 1:
                    refusal = error.failure.error_code or error.failure.code
                    ids = ids[:half]
                else:
                    self._add(failed(Name.BATCH, error))
                    return
                continue
            self._count(provider.read_batch(answer.body, ids, answer.now))
            break
        if not refusal:
            self._add(ok(Name.BATCH, f"{len(ids)} pipelines in one request were accepted"))
            return
        self._add(
            warning(
                Name.BATCH,
                f"{wanted} pipelines in one request were refused ({refusal}), {len(ids)} were accepted",
                f"set poll.chunk_size to {len(ids)}, or remove the id at fault; {entry('pipeline-refused')}",
            )
        )

    # Runs

    async def _run(self, watched: Sequence[str]) -> None:
        """Check the run lists of some pipelines, and the details of one run."""
        slow = self._checks[Name.ANSWER].state is not CheckState.OK
        samples = BATCH_SAMPLES if slow or self._provider.batched else SAMPLES
        step = max(1, len(watched) // samples)
        pipelines = watched[::step][:samples]
        results = await asyncio.gather(*(self._runs_of(pipeline) for pipeline in pipelines))
        errors = [result for result in results if isinstance(result, ApiError)]
        read = [(one, runs) for one, runs in zip(pipelines, results, strict=True) if isinstance(runs, list)]
        unreadable = [error for error in errors if error.failure.kind is FailureKind.UNREADABLE]
        if errors and not read:
            self._add(failed(Name.RUNS, errors[0]))
            return
        if unreadable:
            self._rejected += len(unreadable)
            self._first_rejection = self._first_rejection or unreadable[0].failure.message
        other = next((error for error in errors if error not in unreadable), None)
        if other is not None:
            self._add(failed(Name.RUNS, other, state=CheckState.WARNING))
        elif read:
            with_runs = sum(1 for _, runs in read if runs)
            self._add(ok(Name.RUNS, f"{with_runs} of {len(read)} pipelines read have runs"))
        for pipeline, runs in read:
            if runs:
                await self._details(pipeline, runs[0])
                break

    async def _runs_of(self, pipeline: str) -> list[Run] | ApiError:
        """Return the runs on the first page of a pipeline's run list, or the error."""
        try:
            answer = await self._api.send(self._provider.runs_request(pipeline, PageCursor(), 20))
        except ApiError as error:
            return error
        return self._count(self._provider.read_runs(answer.body, pipeline, answer.now, answer.headers)).runs

    async def _details(self, pipeline: str, run: Run) -> None:
        try:
            answer = await self._api.send(self._provider.detail_request(pipeline, run.id))
        except ApiError as error:
            self._add(failed(Name.DETAILS, error))
            return
        detail = self._count(self._provider.read_detail(answer.body, pipeline, answer.now))
        if detail.run is not None:
            stages = len(detail.run.stages)
            self._add(ok(Name.DETAILS, f"the newest run of a pipeline has {stages} stages"))
        await self._retention(answer)

    async def _retention(self, detail: ApiResponse) -> None:
        provider = self._provider
        if not isinstance(provider, KnowsRetention):
            return
        request: ApiRequest | None = provider.retention_request(detail.body)
        days: int | None = None
        if request is not None:
            try:
                days = provider.read_retention((await self._api.send(request)).body)
            except ApiError:
                days = None
        detail_text = f"runs are kept for {days} days" if days is not None else "not known"
        self._add(ok(Name.RETENTION, detail_text))
