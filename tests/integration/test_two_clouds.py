"""One configuration with a project of each cloud: the same metrics, and independent failures."""

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import yaml

from exporter.app.bootstrap import assemble
from exporter.app.exporter import Exporter
from exporter.simulator import CodeArts, Flow, FlowCredentials, InjectedFault, World, combine, running
from tests.drivers.process import Samples, command
from tests.drivers.support import FakeClock, config, shown

FREE = {"requests_per_second": 100_000, "burst": 100_000}


@dataclass
class Pair:
    """Both clouds on one port and an exporter, with a common clock."""

    codearts: CodeArts
    flow: Flow
    url: str
    clock: FakeClock

    @property
    def projects(self) -> list[dict[str, object]]:
        """Return the configuration of both projects, with discovery of all pipelines."""
        common = {"endpoint": self.url, "rate_limit": FREE, "discover": {"interval": "1m"}}
        return [
            {
                "name": "payments",
                "provider": "codearts",
                "project_id": self.codearts.world.project_id,
                "auth": {"method": "token", "token": self.codearts.credentials.token},
                **common,
            },
            {
                "name": "mobile",
                "provider": "flow",
                "organization_id": self.flow.organization_id,
                "auth": {"method": "yunxiao_token", "token": self.flow.credentials.personal_token},
                **common,
            },
        ]

    def play(self, *steps: float | Callable[[], object]) -> list[Samples]:
        """Let seconds pass and poll, or call a function, for each step; return the page after each poll."""

        async def whole() -> list[Samples]:
            exporter = assemble(config(*self.projects), self.clock)
            pages = []
            for step in steps:
                if callable(step):
                    step()
                    continue
                self.clock.now += step
                await asyncio.gather(*(poller.tick() for poller in exporter.pollers))
                pages.append(page(exporter))
            for poller in exporter.pollers:
                await poller.close()
            return pages

        return asyncio.run(whole())


def page(exporter: Exporter) -> Samples:
    return Samples(shown(exporter))


@pytest.fixture
def pair() -> Iterator[Pair]:
    codearts, flow = CodeArts(World(seed=1, pipelines=30)), Flow(World(seed=2, pipelines=30))
    clock = FakeClock(codearts.world.start + 20 * 86400.0)
    codearts.clock = flow.clock = clock.time
    with running(combine(codearts, flow)) as url:
        yield Pair(codearts, flow, url, clock)


def families(page: Samples, provider: str) -> set[str]:
    """Return the names of the series of a provider's pipelines."""
    return {
        line.partition("{")[0]
        for line in page.lines
        if line.startswith("ci_pipeline") and f'provider="{provider}"' in line
    }


def test_both_clouds_have_the_same_metrics(pair):
    """Series of the clouds differ by label only."""
    *_, last = pair.play(0, 60, 3600)
    # By chance only one of them may have a waiting stage or a broken pipeline.
    chance = {
        "ci_pipeline_latest_run_stage_status_change_timestamp_seconds",
        "ci_pipeline_broken_since_timestamp_seconds",
    }
    assert families(last, "codearts") - chance == families(last, "flow") - chance
    assert "ci_pipeline_latest_run_stage_duration_seconds" in families(last, "flow")
    assert len(last.get("ci_pipeline_up", provider="flow")) == 30


@pytest.mark.parametrize(
    "injected_fault",
    [InjectedFault.BAD_GATEWAY, InjectedFault.DENIED, InjectedFault.HTML, InjectedFault.THROTTLED],
)
@pytest.mark.parametrize("failing", ["codearts", "flow"])
def test_failure_of_one_cloud_does_not_affect_the_other(pair, failing, injected_fault):
    """Neither the series of the other cloud nor its `project_up` change."""
    other = {"codearts": "flow", "flow": "codearts"}[failing]

    def fail() -> None:
        getattr(pair, failing).injected_fault = injected_fault

    _, after = pair.play(0, fail, 60)
    assert after.value("pipeline_exporter_project_up", provider=failing) == 0
    assert after.value("pipeline_exporter_project_up", provider=other) == 1
    assert set(after.get("ci_pipeline_up", provider=other).values()) == {1.0}
    assert 0.0 in after.get("ci_pipeline_up", provider=failing).values()


def test_pause_lasts_as_long_as_requested(pair):
    """Flow sends milliseconds, with its own code and various statuses."""
    pair.flow.retry_after = True
    pair.flow.statuses = {"TooManyRequests": 400}
    pair.flow.throttle = (40, 5.0)
    *_, last = pair.play(0)
    assert last.value("pipeline_exporter_api_throttled_total", project="mobile") > 0
    assert last.value("pipeline_exporter_api_throttled_total", project="payments") == 0
    assert last.value("pipeline_exporter_project_up", project="mobile") == 1
    assert 1 < max(pair.clock.slept) <= 5


def test_rotated_token_is_used_without_a_restart(pair, tmp_path):
    """It is read from its file. While the old one is rejected, few requests are sent."""
    file = tmp_path / "token"
    file.write_text(pair.flow.credentials.personal_token)
    settings = config({**pair.projects[1], "auth": {"method": "yunxiao_token", "token_file": str(file)}})

    async def whole() -> list[float | None]:
        exporter = assemble(settings, pair.clock)
        seen = []
        for _ in range(2):
            await exporter.pollers[0].tick()
            seen.append(page(exporter).value("pipeline_exporter_credentials_valid"))
            pair.flow.credentials = FlowCredentials(personal_token="pt-another")
            pair.clock.now += 60
        file.write_text("pt-another")
        await exporter.pollers[0].tick()
        seen.append(page(exporter).value("pipeline_exporter_credentials_valid"))
        await exporter.pollers[0].close()
        return seen

    assert asyncio.run(whole()) == [1, 0, 1]


def test_commands_print_both_clouds(pair, tmp_path):
    """`discover` prints what `check-config` accepts, and `once` prints the pipelines of both."""
    pair.codearts.clock = pair.flow.clock = time.time
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump({"projects": pair.projects}))
    code, output, errors = command("discover", "--config.file", str(file))
    assert (code, errors) == (0, "")
    payments, mobile = output.split("# mobile")
    assert len(yaml.safe_load(payments)["pipelines"]) == 30
    found = yaml.safe_load("# mobile" + mobile)["pipelines"]
    assert {entry["id"] for entry in found} == {
        pair.flow.pipeline_id(one.id) for one in pair.flow.world.pipelines
    }
    file.write_text(
        yaml.safe_dump({"projects": [pair.projects[0], {**pair.projects[1], "pipelines": found}]})
    )
    code, output, _ = command("check-config", str(file))
    assert code == 0
    assert "mobile (flow, " in output
    code, output, _ = command("once", "--config.file", str(file))
    assert code == 0
    assert len(Samples(output).get("ci_pipeline_up")) == 60
