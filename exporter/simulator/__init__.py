"""Clouds that never were, speaking the vendors' APIs on a real port.

They serve the demo, the end-to-end tests and the benchmarks. A world is a pure function of a seed and the
time, so that what an exporter should have seen can be computed beside what it did see; a story is what somebody
does to its pipelines, and remembers what was true and what was told. Nothing here knows the exporter's insides.
"""

from exporter.simulator.clock import Accelerated
from exporter.simulator.codearts import CodeArts
from exporter.simulator.drama import Drama, Odds
from exporter.simulator.flow import Flow, FlowCredentials
from exporter.simulator.gateway import Credentials
from exporter.simulator.mischief import Mischief
from exporter.simulator.reception import Call
from exporter.simulator.runs import Status
from exporter.simulator.server import running, serve
from exporter.simulator.story import State, Story, Truth
from exporter.simulator.tale import Tale, Telling
from exporter.simulator.together import together
from exporter.simulator.world import World

__all__ = [
    "Accelerated",
    "Call",
    "CodeArts",
    "Credentials",
    "Drama",
    "Flow",
    "FlowCredentials",
    "Mischief",
    "Odds",
    "State",
    "Status",
    "Story",
    "Tale",
    "Telling",
    "Truth",
    "World",
    "running",
    "serve",
    "together",
]
