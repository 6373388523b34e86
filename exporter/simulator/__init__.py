"""Clouds that never were, speaking the vendors' APIs on a real port.

They serve the demo, the end-to-end tests and the benchmarks. A world is a pure function of a seed and the
time, so that what an exporter should have seen can be computed beside what it did see. Nothing here knows the
exporter's insides.
"""

from exporter.simulator.codearts import CodeArts
from exporter.simulator.gateway import Credentials
from exporter.simulator.mischief import Mischief
from exporter.simulator.reception import Call
from exporter.simulator.server import running, serve
from exporter.simulator.world import World

__all__ = ["Call", "CodeArts", "Credentials", "Mischief", "World", "running", "serve"]
