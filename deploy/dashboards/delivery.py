"""The dashboard Delivery: deployment frequency, change failure rate and time to restore."""

from deploy.dashboards.model import (
    PIPELINES,
    PROJECTS,
    PROVIDERS,
    TEAMS,
    Column,
    Query,
    board,
    deploying_runs,
    failed_runs,
    graph,
    note,
    number,
    rows,
)
from deploy.dashboards.queries import INFO, NAMES, both, by, of_team, pipelines, ratio

_DEPLOYMENTS = "pipeline:ci_pipeline_deployments:increase"
_DEPLOYING = pipelines(INFO, 'label_deploys!=""')
_DONE, _FAILED = 'status="success"', 'status="failed"'
_BOTH = 'status=~"success|failed"'
_PER_DAY = (None, "red"), (1 / 30, "orange"), (1 / 7, "yellow"), (1, "green")
_FAILURE = (None, "green"), (0.05, "yellow"), (0.1, "orange"), (0.15, "red")
_RESTORE = (None, "green"), (3600, "yellow"), (86_400, "orange"), (604_800, "red")


def _deployments(window: str, status: str) -> str:
    return of_team(pipelines(f"{_DEPLOYMENTS}{window}", status))


def _recovered(name: str, window: str) -> str:
    return of_team(both(pipelines(f"pipeline:ci_pipeline_{name}:increase{window}"), _DEPLOYING))


def _restore(window: str, labels: str = "") -> str:
    how = f"sum by ({labels})" if labels else "sum"
    return ratio(
        f"{how} (\n{_recovered('recovery_seconds', window)}\n)",
        f"{how} (\n{_recovered('recoveries', window)}\n)",
    )


_NUMBERS = (
    number(
        "Deployments a day, 30 days",
        "Successful runs of deploying pipelines, divided by 30. Levels: green once a day or more, yellow once a week, orange "
        "once a month.",
        f"sum(\n{_deployments('30d', _DONE)}\n) / 30",
        size=(6, 5),
        steps=_PER_DAY,
        decimals=2,
        none="no pipeline is marked",
    ),
    number(
        "Change failure rate, 30 days",
        "Failed runs of deploying pipelines, by all that succeeded or failed. Levels: green up to 5 %, yellow up to 10 %, "
        "orange up to 15 %.",
        ratio(f"sum(\n{_deployments('30d', _FAILED)}\n)", f"sum(\n{_deployments('30d', _BOTH)}\n)"),
        size=(6, 5),
        unit="percentunit",
        steps=_FAILURE,
        decimals=1,
        none="no deployment",
    ),
    number(
        "Time to restore, 30 days",
        "Average time from the end of a first failure to the end of the success that followed. Levels: green up to an hour, "
        "yellow up to a day, orange up to a week.",
        _restore("30d"),
        size=(6, 5),
        unit="s",
        steps=_RESTORE,
        decimals=1,
        none="none was needed",
    ),
    number(
        "Red now",
        "Deploying pipelines whose latest finished run failed. They count in the time to restore only when they are green.",
        f"count(\n{of_team(both(pipelines('pipeline:ci_pipeline_latest_finished_run_failed:held') + ' == 1', _DEPLOYING))}\n)"
        " or vector(0)",
        size=(6, 5),
        steps=((None, "green"), (1, "red")),
    ),
)
_TRENDS = (
    graph(
        "Deployments a day",
        "Successful runs of deploying pipelines in the 24 hours before each moment.",
        [Query(by("project", _deployments("1d", _DONE), "sum"), "{{project}}")],
        stacked=True,
    ),
    graph(
        "Change failure rate of the past 7 days",
        "Failed runs of deploying pipelines, by all that succeeded or failed.",
        [
            Query(
                ratio(
                    by("project", _deployments("7d", _FAILED), "sum"),
                    by("project", _deployments("7d", _BOTH), "sum"),
                ),
                "{{project}}",
            )
        ],
        unit="percentunit",
    ),
    graph(
        "Time to restore of the past 7 days",
        "Average time for which deploying pipelines were red before they succeeded again.",
        [Query(_restore("7d", "project"), "{{project}}")],
        unit="s",
        none="none was needed",
    ),
    note(
        "What is measured",
        "How pipelines are marked, and what these metrics leave out.",
        "Pipelines with the label `deploys` in the configuration of the exporter, for example "
        "`labels: {deploys: production}`, count as deploying. Each of their successful runs is a deployment.\n\n"
        "**Lead time for changes is not shown**: neither cloud's API reports when a commit was made, so it cannot be "
        "computed.\n\n"
        "A failed run stands for a failed change. A failure that users notice after a successful deployment is not in "
        "these figures.\n\n"
        "Windows are complete once Prometheus has evaluated the rules for that long.",
        size=(12, 8),
    ),
)
_EACH = rows(
    "Deploying pipelines, 30 days",
    "The same for each deploying pipeline.",
    [
        by(NAMES, _deployments("30d", _DONE), "sum"),
        by(NAMES, of_team(pipelines("pipeline:ci_pipeline_deployments:failure_ratio30d"))),
        by(NAMES, of_team(both(pipelines("pipeline:ci_pipeline_recovery_seconds:mean30d"), _DEPLOYING))),
    ],
    [
        Column("pipeline", "Pipeline"),
        Column("project", "Project"),
        Column(0, "Deployments", width=130, decimals=0),
        Column(1, "Change failure rate", unit="percentunit", width=170, decimals=1, steps=_FAILURE),
        Column(2, "Time to restore", unit="s", width=150, decimals=1, steps=_RESTORE),
    ],
    size=(24, 10),
    sort=("Deployments", True),
    none="no pipeline is marked",
)
BOARD = board(
    "delivery",
    "Delivery",
    "Deployment frequency, change failure rate and time to restore of the pipelines that deploy.",
    since="now-30d",
    variables=(PROVIDERS, PROJECTS, TEAMS, PIPELINES),
    annotations=(failed_runs(enabled=False), deploying_runs(enabled=False)),
    sections=(("Levels", _NUMBERS), ("Trend", _TRENDS), ("Pipelines", (_EACH,))),
)
