"""Clouds that never were, speaking the vendors' APIs on a real port.

They serve the demo, the end-to-end tests and the benchmarks. A world is a pure function of a seed and the
time, so that what an exporter should have seen can be computed beside what it did see; a story is what somebody
does to its pipelines, and remembers what was true and what was told. Nothing here knows the exporter's insides.
"""

from exporter.simulator.codearts.cloud import CodeArts
from exporter.simulator.codearts.gateway import Credentials
from exporter.simulator.flow import Flow, FlowCredentials
from exporter.simulator.http.faults import InjectedFault
from exporter.simulator.http.recorder import Call
from exporter.simulator.http.server import running, serve
from exporter.simulator.http.together import together
from exporter.simulator.scenario.generator import FaultRates, ScenarioGenerator
from exporter.simulator.scenario.run import SimulatedRun, Telling
from exporter.simulator.scenario.scenario import Scenario, State, Truth
from exporter.simulator.world.clock import Accelerated
from exporter.simulator.world.runs import Status
from exporter.simulator.world.world import World

__all__ = [
    "Accelerated",
    "Call",
    "CodeArts",
    "Credentials",
    "FaultRates",
    "Flow",
    "FlowCredentials",
    "InjectedFault",
    "Scenario",
    "ScenarioGenerator",
    "SimulatedRun",
    "State",
    "Status",
    "Telling",
    "Truth",
    "World",
    "running",
    "serve",
    "together",
]
