"""Read the samples that the command `status` needs from /metrics: of a running exporter, or after a poll."""

import re
from collections.abc import Iterable, Iterator
from urllib.parse import urlsplit

import httpx
import msgspec
from prometheus_client.parser import text_string_to_metric_families

from exporter.app.cloud_access import LOOPBACK
from exporter.client.transport import USER_AGENT, tls_context
from exporter.core.clock import Clock, SystemClock
from exporter.core.redaction import register_proxy

TIMEOUT = 10.0
"""Seconds to wait for the next byte from an exporter."""
TOTAL = 30.0
"""Maximum seconds for a whole response."""
LIMIT = 512 * 1024 * 1024
"""Maximum bytes of a response, decompressed. A million series have 200 MB."""

PROJECTS = frozenset(
    {
        "pipeline_exporter_project_up",
        "pipeline_exporter_project_down_since_timestamp_seconds",
        "pipeline_exporter_project_failure_info",
        "pipeline_exporter_last_poll_timestamp_seconds",
        "pipeline_exporter_pipelines",
    }
)
STATUSES = frozenset({"ci_pipeline_latest_run_status", "ci_pipeline_latest_finished_run_status"})
DETAILS = frozenset(
    {
        "ci_pipeline_info",
        "ci_pipeline_latest_run_start_timestamp_seconds",
        "ci_pipeline_latest_run_status_change_timestamp_seconds",
        "ci_pipeline_latest_run_info",
        "ci_pipeline_latest_run_stage_status",
        "ci_pipeline_latest_finished_run_info",
        "ci_pipeline_latest_finished_run_failed_stage",
        "ci_pipeline_consecutive_failures",
        "ci_pipeline_broken_since_timestamp_seconds",
        "ci_pipeline_run_duration_seconds_sum",
        "ci_pipeline_run_duration_seconds_count",
    }
)
"""Metrics that are read only for pipelines that are red or in progress."""

STATUS = "/api/v1/status"
"""Path of the status as JSON. Unlike /metrics, it has remedies for projects that are down."""

_NOTABLE = re.compile(rb'[{,]status="(?:failed|running|pending|waiting|paused|suspended)"')
_ID = re.compile(rb'[{,]pipeline_id="([^"]*)"')
_ZERO = (b" 0.0", b" 0")

Samples = dict[str, list[tuple[dict[str, str], float]]]
"""Pairs of labels and value, by the name of the sample."""


class _Project(msgspec.Struct):
    project: str
    remedy: str | None = None


class _Status(msgspec.Struct):
    projects: list[_Project]


class PageError(Exception):
    """The metrics of an exporter cannot be read. The message names the address."""


def read_samples(lines: Iterable[bytes]) -> Samples:
    """Return the samples of projects, and of the pipelines that are red or in progress.

    Raises:
        ValueError: a line is not a sample.

    """
    found: Samples = {name: [] for name in PROJECTS | STATUSES | DETAILS}
    details: list[tuple[str, bytes]] = []
    ids: set[bytes] = set()
    # Parsing a line costs as much as skipping fifty, and most lines belong to pipelines with nothing to show.
    for line in lines:
        name = line.partition(b"{")[0].decode("utf-8", "replace")
        if name in PROJECTS:
            found[name] += _parse(line)
        elif name in STATUSES:
            if _NOTABLE.search(line) and not line.rstrip().endswith(_ZERO):
                ids.update(_ID.findall(line))
                found[name] += _parse(line)
        elif name in DETAILS:
            details.append((name, line))
    for name, line in details:
        own = _ID.search(line)
        if own is not None and own[1] in ids:
            found[name] += _parse(line)
    return found


def _parse(line: bytes) -> Iterator[tuple[dict[str, str], float]]:
    for family in text_string_to_metric_families(f"{line.decode()}\n"):
        for sample in family.samples:
            yield sample.labels, sample.value


def fetch(url: str, path: str, clock: Clock | None = None) -> Samples:
    """Return the samples of the exporter at `url`. `path`, the path of its metrics, is appended unless `url` ends with it.

    Raises:
        PageError: no exporter responds there, or its response is not usable.

    """
    address = _address(url, path)
    shown = address.copy_with(username=None, password=None)
    try:
        samples = read_samples(_lines(address, clock or SystemClock()))
    except httpx.TimeoutException:
        raise PageError(f"{shown} does not answer within {TIMEOUT:g} s") from None
    except httpx.HTTPError as error:
        raise PageError(f"{shown} does not answer: {str(error) or type(error).__name__}") from None
    except ValueError:
        raise PageError(f"{shown} is not a page of metrics (is it the address of the exporter?)") from None
    except PageError as error:
        raise PageError(f"{shown} {error}") from None
    if not samples["pipeline_exporter_project_up"]:
        raise PageError(f"{shown} is not the page of a pipeline-exporter (check the address and the path)")
    return samples


def fetch_remedies(url: str, path: str, clock: Clock | None = None) -> dict[str, str]:
    """Return the remedy for each project that is down, as a heading of docs/troubleshooting.md. Arguments as for `fetch`.

    It is empty if the status cannot be read: a proxy may let only /metrics through.
    """
    address = _address(url, path)
    address = address.copy_with(path=address.path.removesuffix(path) + STATUS)
    try:
        body = b"\n".join(_lines(address, clock or SystemClock()))
        status = msgspec.json.decode(body, type=_Status)
    except (httpx.HTTPError, PageError, msgspec.MsgspecError, UnicodeDecodeError):
        return {}
    return {one.project: one.remedy for one in status.projects if one.remedy}


def _address(url: str, path: str) -> httpx.URL:
    """Return the URL of the exporter's metrics."""
    register_proxy(url)
    address = httpx.URL(url)
    return address if address.path.endswith(path) else address.copy_with(path=address.path.rstrip("/") + path)


def _lines(address: httpx.URL, clock: Clock) -> Iterator[bytes]:
    """Yield the lines of a response as they arrive, so that the whole response is never in memory."""
    deadline = clock.monotonic() + TOTAL
    headers = {"Accept": "text/plain;version=0.0.4", "Accept-Encoding": "gzip", "User-Agent": USER_AGENT}
    local = urlsplit(str(address)).hostname in LOOPBACK
    verify = tls_context() if address.scheme == "https" else False
    size, rest = 0, b""
    with (
        # A proxy does not reach this machine.
        httpx.Client(timeout=TIMEOUT, trust_env=not local, verify=verify) as client,
        client.stream("GET", address, headers=headers) as response,
    ):
        if response.status_code != httpx.codes.OK:
            raise PageError(f"answers {response.status_code} {response.reason_phrase}".rstrip())
        for chunk in response.iter_bytes():
            size += len(chunk)
            if size > LIMIT:
                raise PageError(f"has more than {LIMIT >> 20} MiB")
            if clock.monotonic() > deadline:
                raise PageError(f"takes more than {TOTAL:g} s")
            *lines, rest = (rest + chunk).split(b"\n")
            yield from lines
    if rest:
        yield rest
