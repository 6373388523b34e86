"""Blocks as a Prometheus writes them: of scraped pages, and of the results of recording rules."""

import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from tests.drivers.prometheus import api_get, stored
from tests.drivers.rules import RECORDING

TARGET = 'job="pipeline-exporter",instance="exporter:10047"'
CHUNK = 500
"""Number of metrics pages that promtool converts at once."""
Group = dict[str, Any]
Rule = dict[str, str]
Range = tuple[float, float, float]
"""First and last time of evaluations, and the seconds between them."""


@lru_cache(maxsize=50_000)  # most lines are the same on many pages
def _stored(line: str, target: str) -> str:
    """Return a sample with the labels of the target, as a scrape adds them."""
    series, _, value = line.rpartition(" ")
    name, _, labels = series.partition("{")
    return f"{name}{{{target},{labels} {value}" if labels else f"{name}{{{target}}} {value}"


class Blocks:
    """Writes metrics pages as blocks; promtool converts `CHUNK` pages at a time."""

    def __init__(self, promtool: str, folder: Path) -> None:
        self._promtool = promtool
        self._folder = folder
        self._file = folder.with_name(f"{folder.name}.txt")
        self._texts: list[str] = []

    def add(self, moment: float, page: str, target: str = TARGET) -> None:
        """Add the page of a scrape at `moment` (Unix seconds)."""
        end = f" {moment:.3f}\n"
        lines = [_stored(line, target) for line in page.splitlines() if line[0] != "#"]
        assert len({line.rpartition(" ")[0] for line in lines}) == len(lines), "a series is on the page twice"
        scrape = f"up{{{target}}} 1", f"scrape_samples_scraped{{{target}}} {len(lines)}"
        self.add_text(end.join([*scrape, *lines, ""]))

    def add_text(self, text: str) -> None:
        """Add lines with their times, not before those of the lines so far."""
        self._texts.append(text)
        if len(self._texts) == CHUNK:
            self.flush()

    def flush(self) -> None:
        """Convert the pages added since the last call."""
        with self._file.open("w", encoding="utf-8") as file:
            file.writelines([*self._texts, "# EOF\n"])
        self._texts.clear()
        subprocess.run(
            [
                self._promtool,
                "tsdb",
                "create-blocks-from",
                "openmetrics",
                "--quiet",
                "--max-block-duration=480h",
                str(self._file),
                str(self._folder),
            ],
            check=True,
            capture_output=True,
        )
        self._file.unlink()


def record(
    promtool: str, prometheus: str, directory: Path, times: Callable[[str], Range], *, per_hour: int = 12
) -> None:
    """Evaluate the recording rules on the blocks of a directory, and add blocks with the results.

    `times` returns when the rules of a group are evaluated. `per_hour` is how often those of hours are.
    """
    groups = yaml.safe_load(RECORDING.read_text())["groups"]
    for rules in _levels(groups):
        samples: list[tuple[float, str]] = []
        with stored(prometheus, directory) as url:
            for group, rule in rules:
                expression = rule["expr"].replace("/ 12", f"/ {per_hour}")
                samples += _evaluated(url, rule["record"], expression, times(group))
        samples.sort(key=lambda sample: sample[0])
        blocks = Blocks(promtool, directory / "data")
        blocks.add_text("".join(line for _, line in samples))
        blocks.flush()


def _levels(groups: Sequence[Group]) -> Iterator[list[tuple[str, Rule]]]:
    """Yield rules with the names of their groups: first those that need no other, then those that need only these."""
    rest = [(group["name"], rule) for group in groups for rule in group["rules"]]
    while rest:
        missing = {rule["record"] for _, rule in rest}
        ready = [
            (group, rule) for group, rule in rest if not missing & set(re.findall(r"[\w:]+", rule["expr"]))
        ]
        yield ready
        rest = [one for one in rest if one not in ready]


def _evaluated(url: str, name: str, expression: str, times: Range) -> Iterator[tuple[float, str]]:
    first, last, step = times
    found = api_get(url, "query_range", query=expression, start=first, end=last, step=step)
    assert found is not None, expression
    for row in found["result"]:
        labels = ",".join(f'{key}="{value}"' for key, value in row["metric"].items() if key != "__name__")
        for time, value in row["values"]:
            yield time, f"{name}{{{labels}}} {value} {time:.3f}\n"
