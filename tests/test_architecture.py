"""The house stands as drawn: who may import whom, and which words stay where."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "exporter"

# Each room may import the rooms named with it, and itself; rooms are files or folders of the package. The order is
# that of the picture: what thinks is on top and knows least.
MAY_IMPORT = {
    "redaction": set(),
    "files": set(),
    "model": {"redaction"},
    "fault": set(),
    "clock": set(),
    "health": {"clock"},
    "logs": {"redaction"},
    "config": {"files", "providers", "model", "redaction"},
    "auth": {"config", "fault", "files", "redaction"},
    "providers": {"model", "auth", "config", "fault", "redaction"},
    "ledger": {"model"},
    "tally": {"model", "ledger"},
    "budget": {"clock"},
    "credential": {"auth", "clock", "fault"},
    "shard": set(),
    "membership": {"config", "model", "providers", "shard"},
    "telemetry": {"providers", "fault", "redaction", "shard"},
    "backfill": {"ledger"},
    "memory": {"ledger", "model", "tally"},
    "board": {"model", "ledger", "tally", "memory", "backfill", "config"},
    "metrics": {"model", "board", "tally", "config", "providers"},
    "exposition": {"board", "metrics", "redaction", "tally"},
    "negotiation": {"exposition"},
    "api": {
        "auth", "budget", "clock", "config", "credential", "fault", "health", "providers", "redaction", "telemetry",
        "transport",
    },
    "bodies": set(),
    "transport": {"bodies", "config", "fault", "files", "redaction"},
    "worker": set(),
    "store": {"worker"},
    "archive": {"board", "clock", "config", "memory", "providers", "shard", "store", "tally", "telemetry"},
    "report": {"api", "board", "fault", "providers", "telemetry"},
    "inquiry": {"api", "board", "clock", "config", "fault", "ledger", "model", "providers", "report"},
    "looks": {"api", "board", "clock", "fault", "inquiry", "ledger", "model", "providers", "report"},
    "poller": {
        "api", "archive", "board", "clock", "config", "fault", "inquiry", "looks", "membership", "model", "providers",
        "report", "telemetry",
    },
    "publisher": {"board", "clock", "exposition", "telemetry"},
    "web": {"exposition", "negotiation"},
    "connections": set(),
    "assembly": {
        "api", "archive", "board", "bodies", "budget", "clock", "config", "credential", "exposition", "membership",
        "metrics", "poller", "providers", "publisher", "shard", "store", "telemetry", "transport",
    },
    "cost": {"config", "inquiry", "providers", "shard"},
    "check": {"assembly", "board", "config", "cost", "ledger", "metrics", "model", "providers", "shard", "tally"},
    "process": set(),
    "daemon": {
        "assembly", "clock", "config", "connections", "health", "poller", "process", "shard", "store", "web",
    },
    "simulator": set(),
    "demo": {"config", "daemon", "simulator"},
    "cli": {
        "transport", "api", "assembly", "membership", "check", "clock", "config", "daemon", "demo", "exposition", "logs",
        "redaction", "shard", "store",
    },
    "__main__": {"cli"},
    "__init__": set(),
}  # fmt: skip

# Only these may import what touches the world.
OUTWARD = {
    "httpx": {"api", "transport"},
    "ssl": {"transport"},
    "socket": {"connections", "daemon", "demo", "simulator"},
    "uvicorn": {"connections", "daemon", "simulator"},
    "starlette": {"web", "daemon", "simulator"},
    "apscheduler": {"daemon"},
    "prometheus_client": {"telemetry", "exposition"},
    "time": {"clock", "simulator"},
    "subprocess": set(),
    "sqlite3": {"store"},
    "fcntl": {"store"},
    "isal": {"exposition"},
    "ctypes": {"process"},
}


def room(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            if node.module == "exporter":
                names |= {f"exporter.{alias.name}" for alias in node.names}
    return names


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path):
    """A room imports what stands above it, and nothing else of the package."""
    own = room(path)
    rooms = {name.split(".")[1] for name in imports(path) if name.startswith("exporter.")} - {"__version__"}
    assert rooms - {own} <= MAY_IMPORT[own]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_world_is_touched_at_the_edge_only(path):
    """Sockets, clocks and servers are imported where they belong."""
    for name in imports(path):
        allowed = OUTWARD.get(name.split(".")[0])
        assert allowed is None or room(path) in allowed, name


def test_every_room_is_drawn():
    """A new file has its place in the picture."""
    assert {room(path) for path in FILES} == set(MAY_IMPORT)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_file_says_why_it_exists(path):
    """A newcomer finds the purpose of a file in its head."""
    assert ast.get_docstring(ast.parse(path.read_text()))


VENDORS = re.compile(
    r"codearts|huawei|aliyun|alibaba|yunxiao|\biam\b|devpipe|apig|stage_time_zone|organization|"
    # A word of a status in the vendors' spelling, in quotes; their fields and headers.
    r"""["'](?-i:COMPLETED|FAILED|FAIL|CANCELED|IGNORED|SUSPEND|WAITING|RUNNING|INIT)["']|"""
    r"(?<!_)run_number|pipeline_run_id|pipelineRunId|stage_status_list|x-auth|x-acs|x-sdk",
    re.IGNORECASE,
)
# Where clouds are spoken to, and where they are made up.
SPEAKING = {"providers", "auth", "simulator", "demo"}


@pytest.mark.parametrize(
    "path",
    [path for path in FILES if room(path) not in SPEAKING],
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_no_vendor_is_known_elsewhere(path):
    """A cloud's words, fields, codes and keys stay with its provider: what comes behind it is the same for all."""
    assert VENDORS.findall(path.read_text()) == []
