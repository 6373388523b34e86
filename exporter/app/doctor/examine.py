"""Examine all projects of a configuration, and this machine."""

import asyncio
import os
from collections import Counter
from collections.abc import Mapping

import msgspec

from exporter.app.bootstrap import assemble
from exporter.app.doctor.checks import Check, CheckState
from exporter.app.doctor.entry import SAMPLE, check_entry
from exporter.app.doctor.machine import check_machine
from exporter.app.doctor.project import ProjectDoctor
from exporter.app.doctor.report import report
from exporter.app.exporter import Exporter
from exporter.app.once import find_projects
from exporter.core.clock import Clock
from exporter.polling.poller import Poller
from exporter.providers.registry import AnyProject, connect
from exporter.settings.settings import Config


class Examination(msgspec.Struct, frozen=True):
    """Results of all checks."""

    checks: tuple[Check, ...]
    report: str
    """Text for the file of `--report`."""

    @property
    def failed(self) -> bool:
        """Whether any check found a fault."""
        return any(check.state is CheckState.FAULT for check in self.checks)


async def examine(
    config: Config, address: str, clock: Clock, environment: Mapping[str, str] = os.environ
) -> Examination:
    """Examine every project, and whether this machine can keep the state and listen on an address.

    Projects are examined at the same time. Those that share a credential share what is known of it.
    """
    exporter = assemble(config, clock, environment)
    await find_projects(exporter)
    entries = [await check_entry(one, config.poll.timeout, clock) for one in exporter.finders]
    sections, pollers = _sample(exporter)
    doctors = [
        ProjectDoctor(config, project, connect(project, environment)[0], poller.api, clock)
        for project, poller in zip(sections, pollers, strict=True)
    ]
    try:
        found = await asyncio.gather(*(doctor.examine() for doctor in doctors))
    finally:
        for poller in exporter.pollers:
            await poller.close()
        exporter.publisher.close()
    machine = tuple(check_machine(config, address))
    return Examination(
        checks=tuple(check for checks in (*entries, *found) for check in checks) + machine,
        report=report(
            [
                (project, checks, doctor.exchanges)
                for project, checks, doctor in zip(sections, found, doctors, strict=True)
            ],
            machine,
        ),
    )


def _sample(exporter: Exporter) -> tuple[list[AnyProject], list[Poller]]:
    """Return the projects to examine with their pollers: all configured ones, and of each entry the first few found."""
    examined: Counter[str] = Counter()
    sections, pollers = [], []
    for project in exporter.projects:
        entry = exporter.entries.get(project.settings.name)
        if entry is not None:
            examined[entry] += 1
            if examined[entry] > SAMPLE:
                continue
        sections.append(project.settings)
        pollers.append(project.poller)
    return sections, pollers
