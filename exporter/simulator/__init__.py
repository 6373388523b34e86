"""Simulated clouds that serve the vendors' APIs on a real port, for the demo, tests and benchmarks.

The runs of a `World` are a pure function of a seed and the time, so a test can compute what an exporter should have
seen. A `Scenario` has runs that a test begins, ends and deletes; it records the true states of each run and what
responses reported about it. This package imports nothing else of the exporter.
"""

from exporter.simulator.codearts.cloud import CodeArts
from exporter.simulator.codearts.gateway import Credentials
from exporter.simulator.console.console import Console
from exporter.simulator.console.drill import Drill, Trouble
from exporter.simulator.flow import Flow, FlowCredentials
from exporter.simulator.http.answers import InjectedFault
from exporter.simulator.http.cloud import combine
from exporter.simulator.http.recorder import RecordedRequest
from exporter.simulator.http.server import running, serve
from exporter.simulator.scenario.generator import FaultRates, ScenarioGenerator
from exporter.simulator.scenario.run import Report, SimulatedRun
from exporter.simulator.scenario.scenario import RunState, Scenario, Truth
from exporter.simulator.world.clock import AcceleratedClock
from exporter.simulator.world.runs import SimulatedStatus
from exporter.simulator.world.world import World

__all__ = [
    "AcceleratedClock",
    "CodeArts",
    "Console",
    "Credentials",
    "Drill",
    "FaultRates",
    "Flow",
    "FlowCredentials",
    "InjectedFault",
    "RecordedRequest",
    "Report",
    "RunState",
    "Scenario",
    "ScenarioGenerator",
    "SimulatedRun",
    "SimulatedStatus",
    "Trouble",
    "Truth",
    "World",
    "combine",
    "running",
    "serve",
]
