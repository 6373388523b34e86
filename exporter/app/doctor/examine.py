"""Examine all projects of a configuration, and this machine."""

import asyncio
import os
from collections.abc import Mapping

import msgspec

from exporter.app.bootstrap import assemble
from exporter.app.doctor.checks import Check, CheckState
from exporter.app.doctor.machine import check_machine
from exporter.app.doctor.project import ProjectDoctor
from exporter.app.doctor.report import report
from exporter.core.clock import Clock
from exporter.providers.registry import connect
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
    doctors = [
        ProjectDoctor(config, project, connect(project, environment)[0], poller.api, clock)
        for project, poller in zip(config.projects, exporter.pollers, strict=True)
    ]
    try:
        found = await asyncio.gather(*(doctor.examine() for doctor in doctors))
    finally:
        for poller in exporter.pollers:
            await poller.close()
        exporter.publisher.close()
    machine = tuple(check_machine(config, address))
    return Examination(
        checks=tuple(check for checks in found for check in checks) + machine,
        report=report(
            [
                (project, checks, doctor.exchanges)
                for project, checks, doctor in zip(config.projects, found, doctors, strict=True)
            ],
            machine,
        ),
    )
