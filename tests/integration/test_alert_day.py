"""A day of a team: how many messages it gets from the Prometheus rules and the example for Alertmanager."""

import time
from collections.abc import Mapping
from pathlib import Path

from tests.drivers.rules import BY_TEAM, PROJECT, Evaluation, Labels, series
from tests.drivers.tools import built, installed
from tests.integration.test_alertmanager import alert, alertmanager

DAY = 1440
STEP = 2
"""Minutes between two evaluations."""
FASTER = 720
"""A simulated day takes two minutes: every duration of Alertmanager and every step is divided by this."""
# Pipeline, minute of the failure, minute of the repair.
EPISODES = (
    (1, 60, 150), (2, 100, 220), (3, 300, 330), (1, 400, 640), (4, 470, 530), (5, 660, 700), (6, 720, 1000),
    (7, 880, 940), (2, 1100, 1180), (8, 1200, 1300),
)  # fmt: skip
GONE = range(500, 560)
"""Minutes without any exporter. One red pipeline stays red throughout, another one is repaired meanwhile."""
DOWN = range(900, 970)
"""Minutes of an outage of the provider, with the same two cases."""
MAX_AGE = 15


def seen(value_at: Mapping[int, float | str], *, withdrawn: bool = False) -> str:
    """Return the values of a series minute by minute, which are missing while the exporter is gone."""
    values: list[str] = []
    for minute in range(0, DAY, STEP):
        if minute in GONE or (withdrawn and minute in range(DOWN.start + MAX_AGE, DOWN.stop)):
            values.append("stale" if values and values[-1] not in {"stale", "_"} else "_")
        else:
            values.append(str(value_at[minute]))
    return " ".join(values)


def frozen(minute: int) -> int:
    """Return the minute of the last response by `minute`: while the project is down, its values do not change."""
    return DOWN.start - STEP if minute in DOWN else minute


def day() -> dict[str, str]:
    """Return the values of the series of twenty pipelines."""
    found: dict[str, str] = {}
    always = dict.fromkeys(range(DAY), 1.0)
    down = {minute: int(minute not in DOWN) for minute in range(DAY)}
    for number in range(20):
        labels = {**PROJECT, "pipeline": f"service-{number}", "pipeline_id": f"s{number}"}
        red = {
            minute: int(any(who == number and start <= frozen(minute) < end for who, start, end in EPISODES))
            for minute in range(DAY)
        }
        found |= {
            series("ci_pipeline_info", labels, label_team="payments", url=""): seen(always),
            series("ci_pipeline_up", labels): seen(down),
            series("ci_pipeline_latest_finished_run_status", labels, status="failed"): seen(
                red, withdrawn=True
            ),
            series("ci_pipeline_consecutive_failures", labels): seen(red, withdrawn=True),
            series("ci_pipeline_latest_run_start_timestamp_seconds", labels): seen(always, withdrawn=True),
            series("ci_pipeline_latest_run_status_change_timestamp_seconds", labels): seen(
                always, withdrawn=True
            ),
        }
    down_since = {
        minute: DOWN.start * 60 if minute in range(DOWN.start + STEP, DOWN.stop) else "stale"
        for minute in range(DAY)
    }
    return found | {
        series("up"): " ".join(str(int(minute not in GONE)) for minute in range(0, DAY, STEP)),
        series("pipeline_exporter_project_up", PROJECT): seen(down),
        series("pipeline_exporter_poll_interval_seconds", PROJECT): seen(dict.fromkeys(range(DAY), 60)),
        series("pipeline_exporter_last_success_timestamp_seconds", PROJECT): seen(
            {minute: frozen(minute) * 60 for minute in range(DAY)}
        ),
        series("pipeline_exporter_project_down_since_timestamp_seconds", PROJECT): seen(down_since),
    }


def identity(labels: Labels) -> tuple[str, ...]:
    return tuple(
        f"{name}={value}" for name, value in sorted(labels.items()) if name not in {"__name__", "alertstate"}
    )


def fired(promtool: str, folder: Path) -> list[dict[tuple[str, ...], Labels]]:
    """Return the alerts that fire at each evaluation of the day."""
    times = [f"{minute}m" for minute in range(0, DAY, STEP)]
    found = Evaluation(promtool, folder, day(), at=times, alerts=BY_TEAM, step=f"{STEP}m")
    return [
        {
            identity(labels): {
                name: value for name, value in labels.items() if name not in {"__name__", "alertstate"}
            }
            for labels, _ in samples
        }
        for samples in found.samples
    ]


def assert_each_failure_and_outage_fires_once(day_of_alerts: list[dict[tuple[str, ...], Labels]]) -> None:
    pairs = zip([{}, *day_of_alerts[:-1]], day_of_alerts, strict=True)
    changes = [before.keys() ^ after.keys() for before, after in pairs]
    assert sum(map(len, changes)) == 2 * (len(EPISODES) + 2)
    names = {labels["alertname"] for alerts in day_of_alerts for labels in alerts.values()}
    assert names == {"PipelineFailed", "PipelineExporterGone", "PipelineExporterProjectDown"}


def test_each_failure_and_outage_fires_once_on_prometheus_3_too(tmp_path):
    assert_each_failure_and_outage_fires_once(fired(built("promtool"), tmp_path))


def test_people_get_one_message_for_each_failure_and_one_for_its_end(tmp_path):
    """The test posts the firing and the resolved alerts at every evaluation, as Prometheus does."""
    day_of_alerts = fired(installed("promtool"), tmp_path)
    assert_each_failure_and_outage_fires_once(day_of_alerts)
    with alertmanager(tmp_path, FASTER) as (manager, messages):
        begun = time.monotonic()
        starts: dict[tuple[str, ...], tuple[float, Labels]] = {}
        for number, firing in enumerate(day_of_alerts):
            time.sleep(max(0.0, begun + number * STEP * 60 / FASTER - time.monotonic()))
            now = time.time()
            ended = {key: starts.pop(key) for key in starts.keys() - firing.keys()}
            for key in firing.keys() - starts.keys():
                starts[key] = now, firing[key]
            # Alertmanager forgets an alert that is not posted again; on a slow machine, the next post may be late.
            current = [alert(labels, start, now + 30) for start, labels in starts.values()]
            manager.post(current + [alert(labels, start, now) for start, labels in ended.values()])
        time.sleep(2)

    known: set[tuple[str, str, str]] = set()
    events = []
    for body in messages.bodies:
        own = {
            (
                body["team"],
                one["labels"].get("pipeline", one["labels"]["alertname"]),
                one["startsAt"] + one["status"],
            )
            for one in body["alerts"]
        }
        assert own - known, "a message without news"
        events += sorted(event[:2] for event in own - known)
        known |= own
    expected = [("payments", f"service-{number}") for number, _, _ in EPISODES]
    expected += [("exporter", "PipelineExporterGone"), ("exporter", "PipelineExporterProjectDown")]
    assert sorted(events) == sorted(2 * expected)
    assert len(messages.bodies) <= len(events)
