"""When a changed file is loaded, and what a reload keeps, tested in this process without polls in real time."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter.app.bootstrap import assemble
from exporter.app.exporter import Exporter
from exporter.app.project import Project
from exporter.app.reloader import CHECK_INTERVAL, Reloader
from exporter.app.scheduler import Scheduler
from exporter.core.health import Health
from exporter.settings.load import load_file
from exporter.settings.settings import Config
from tests.drivers.certificates import Certificates
from tests.drivers.support import PIPELINE_ID, FakeClock, config, project, shown

PIPELINES = [f"{number:032x}" for number in range(1, 5)]
GOOD = {"projects": [project()]}


def other(**changes: Any) -> dict[str, Any]:
    return project(name="other", pipelines=[PIPELINES[0]], **changes)


def replace(file: Path, content: str | None) -> None:
    if content is None:
        file.unlink()
    else:
        file.write_text(content)


async def nothing_to_retire(projects: object) -> None:
    """Stop no polls: none were started."""


async def reload(exporter: Exporter, settings: Config) -> Any:
    return await exporter.apply(exporter.prepare(settings), nothing_to_retire)


def in_force(exporter: Exporter, name: str) -> Project:
    (found,) = [one for one in exporter.projects if one.settings.name == name]
    return found


class TestWatch:
    """The file is checked every few seconds; a change is loaded once two checks in a row find the same content."""

    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        file = tmp_path / "config.yaml"
        file.write_text(yaml.safe_dump(GOOD))
        return file

    def changes(self, file: Path, contents: list[str | None]) -> list[int]:
        """Write contents between checks, None for no file; return after which of them the file was loaded."""
        loads: list[int] = []

        class Clock(FakeClock):
            looks = -1

            async def sleep(self, seconds: float) -> None:
                assert seconds == CHECK_INTERVAL
                self.looks += 1
                if self.looks == len(contents):
                    raise asyncio.CancelledError
                replace(file, contents[self.looks])
                await super().sleep(seconds)

        async def scenario() -> None:
            clock = Clock()
            loaded = load_file(file, {})
            exporter = assemble(loaded.config, clock, {})
            health = Health({}, 60.0)

            class Counting(Reloader):
                def _prepare(self) -> Any:
                    loads.append(clock.looks)
                    return super()._prepare()

            reloader = Counting(loaded, exporter, Scheduler(exporter, clock), health, clock)
            reloader._scheduler.add_new = lambda: None  # type: ignore[method-assign]
            with pytest.raises(asyncio.CancelledError):
                await reloader.watch()
            await reloader.stop()
            await exporter.close()

        asyncio.run(scenario())
        return loads

    def test_changed_content_is_loaded_once_when_it_no_longer_changes(self, file: Path) -> None:
        before, after = file.read_text(), yaml.safe_dump({"projects": [other()]})
        assert self.changes(file, [before, after[:10], after, after, after]) == [3]

    def test_same_content_in_another_file_is_not_loaded(self, file: Path) -> None:
        text = file.read_text()
        assert self.changes(file, [text, text, text]) == []

    def test_file_with_a_fault_is_loaded_once_until_it_changes(self, file: Path) -> None:
        before = file.read_text()
        assert self.changes(file, ["projects: [", "projects: [", "projects: [", before, before, before]) == [
            1,
            4,
        ]

    def test_missing_file_is_reported_once(self, file: Path) -> None:
        """A file that is back at the next check is not reported, as with editors that replace files."""
        text = file.read_text()
        assert self.changes(file, [text, None, text, text]) == []


def test_unchanged_project_keeps_every_object() -> None:
    async def scenario() -> None:
        exporter = assemble(config(project(), other()), FakeClock(), {})
        stays = in_force(exporter, "payments")
        changes = await reload(exporter, config(other(labels={"team": "a"}), project()))
        assert in_force(exporter, "payments") is stays
        assert (changes.added, changes.changed, changes.removed) == ((), ("other",), ())
        assert changes.unchanged == ("payments",)
        await exporter.close()

    asyncio.run(scenario())


def test_changed_project_keeps_tracker_and_state_of_its_credential() -> None:
    """A refusal of a credential is remembered when the project changes."""

    async def scenario() -> None:
        exporter = assemble(config(project()), FakeClock(), {})
        before = in_force(exporter, "payments")
        state = before.client._credential
        await reload(exporter, config(project(rate_limit={"burst": 1}), other()))
        after = in_force(exporter, "payments")
        assert after.poller is not before.poller
        assert after.tracker is before.tracker
        assert after.client._credential is state
        assert in_force(exporter, "other").client._credential is state
        await reload(exporter, config(project(auth={"method": "token", "token": "another-secret-token"})))
        new = in_force(exporter, "payments").client._credential
        assert new is not state
        assert new._lockouts is state._lockouts
        await exporter.close()

    asyncio.run(scenario())


def test_polls_that_clients_have_requested_are_still_sent() -> None:
    """The new poller sends them, at the same times."""

    class Still(FakeClock):
        async def sleep(self, seconds: float) -> None:
            await asyncio.Event().wait()

    async def scenario() -> None:
        clock = Still()
        exporter = assemble(config(project()), clock, {})
        before = in_force(exporter, "payments").poller
        assert before.request_poll(PIPELINE_ID)
        at_once, *later = before.requested.waiting[PIPELINE_ID]
        assert at_once[0] == clock.now
        await reload(exporter, config(project(rate_limit={"burst": 1})))
        after = in_force(exporter, "payments").poller
        assert after is not before
        assert [poll for poll in after.requested.waiting[PIPELINE_ID] if poll != at_once] == later
        await exporter.close()

    asyncio.run(scenario())


def test_changed_authorities_make_a_project_changed(tmp_path: Path) -> None:
    authorities = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        authorities.append(Path(Certificates.create(tmp_path / name).file("ca.pem")).read_bytes())
    file = tmp_path / "ca.pem"

    def settings(content: bytes) -> Config:
        file.write_bytes(content)
        return config(project(tls={"ca_file": str(file)}))

    async def scenario() -> list[tuple[str, ...]]:
        exporter = assemble(settings(authorities[0]), FakeClock(), {})
        changed = [(await reload(exporter, settings(content))).changed for content in authorities]
        await exporter.close()
        return changed

    assert asyncio.run(scenario()) == [(), ("payments",)]


def test_counters_of_a_removed_project_are_hidden_and_continue() -> None:
    async def scenario() -> list[bool]:
        exporter = assemble(config(project(), other()), FakeClock(), {})
        exporter.telemetry.request_retried("other", "codearts")
        pages = []
        for projects in ((project(), other()), (project(),), (project(), other())):
            await reload(exporter, config(*projects))
            await exporter.publisher.publish()
            page = shown(exporter)
            pages.append('retries_total{project="other",provider="codearts"} 1.0' in page)
            assert ('project="other"' in page) == (len(projects) == 2)
        await exporter.close()
        return pages

    assert asyncio.run(scenario()) == [True, False, True]
