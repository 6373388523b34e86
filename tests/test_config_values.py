"""What a good configuration means: defaults, every key, and the text as the user wrote it."""

from pathlib import Path
from textwrap import dedent
from zoneinfo import ZoneInfo

import pytest
import yaml

from exporter.config.schema import load
from exporter.config.secret import MASK
from exporter.providers.codearts import ENDPOINTS

MINIMAL = """
projects:
  - name: payments
    provider: codearts
    region: cn-north-4
    project_id: 54f90b75fc1447b1b65e8d3a9f77923d
    auth: {method: token, token: opensesame}
    pipelines: [d19799d619424b2bb2625ec2d93ea087]
"""
PIPELINES = "[d19799d619424b2bb2625ec2d93ea087]"


@pytest.fixture
def read(tmp_path):
    def read(text, **environment):
        file = tmp_path / "config.yaml"
        file.write_text(dedent(text))
        return load(file, environment)

    return read


def test_defaults(read):
    """What is left out is what the documentation says."""
    config = read(MINIMAL)
    assert config.poll.model_dump() == {
        "interval": "1m",
        "active_interval": "15s",
        "chunk_size": 50,
        "concurrency": 4,
        "timeout": "10s",
        "max_age": "15m",
    }
    assert config.poll.interval == 60.0
    assert config.metrics.model_dump() == {
        "run_status_series": "all",
        "stage_status_series": "current",
        "run_info_labels": ("trigger", "branch"),
        "run_histogram": "pipeline",
        "stage_histogram": "project",
        "run_duration_buckets": (
            "15s", "30s", "1m", "2m", "5m", "10m", "20m", "30m", "1h", "2h", "4h", "8h", "1d",
        ),
        "stage_duration_buckets": ("30s", "2m", "10m", "30m", "2h"),
        "created_series": False,
    }  # fmt: skip
    [project] = config.projects
    assert project.stage_time_zone == ZoneInfo("Asia/Shanghai")
    assert (project.rate_limit.requests_per_second, project.rate_limit.burst) == (10, 20)
    assert project.endpoint is None
    [pipeline] = project.pipelines
    assert (pipeline.id, pipeline.name, pipeline.labels) == ("d19799d619424b2bb2625ec2d93ea087", None, {})


def test_every_key(read):
    """Each key takes effect."""
    config = read("""
        poll:
          interval: 2m
          active_interval: 20s
          chunk_size: 10
          concurrency: 1
          timeout: 2500ms
          max_age: 1h30m
        metrics:
          run_status_series: current
          stage_status_series: all
          run_info_labels: [trigger, branch, tag, run_id, commit, executor, event, merge_id, source_branch, url]
          run_histogram: project
          stage_histogram: off
          run_duration_buckets: [1m, 1h]
          stage_duration_buckets: [500ms]
          created_series: true
        projects:
          - name: payments
            provider: codearts
            region: nowhere-1
            endpoint: http://127.0.0.1:8080/clouds/
            project_id: p-1
            stage_time_zone: Europe/Dublin
            rate_limit: {requests_per_second: 0.5, burst: 1}
            auth:
              method: aksk
              access_key: the access key
              secret_key: the secret key
              security_token: the security token
              iam_project_id: iam-1
            pipelines:
              - plain
              - id: named
                name: Checkout service
                labels: {team: payments, Cost_Centre2: ""}
    """)
    assert config.poll.model_dump(exclude={"timeout"}) == {
        "interval": "2m",
        "active_interval": "20s",
        "chunk_size": 10,
        "concurrency": 1,
        "max_age": "1h30m",
    }
    assert config.poll.timeout == 2.5
    assert config.metrics.run_status_series == "current"
    assert config.metrics.stage_status_series == "all"
    assert len(config.metrics.run_info_labels) == 10
    assert (config.metrics.run_histogram, config.metrics.stage_histogram) == ("project", "off")
    assert config.metrics.run_duration_buckets == (60.0, 3600.0)
    assert config.metrics.stage_duration_buckets == (0.5,)
    assert config.metrics.created_series is True
    [project] = config.projects
    assert (project.name, project.project_id) == ("payments", "p-1")
    assert project.base_url == "http://127.0.0.1:8080/clouds"
    assert project.stage_time_zone == ZoneInfo("Europe/Dublin")
    assert (project.rate_limit.requests_per_second, project.rate_limit.burst) == (0.5, 1)
    assert project.auth.access_key.reveal() == "the access key"
    assert project.auth.secret_key.reveal() == "the secret key"
    assert project.auth.security_token.reveal() == "the security token"
    assert project.auth.iam_project_id == "iam-1"
    plain, named = project.pipelines
    assert (plain.id, plain.name) == ("plain", None)
    assert (named.id, named.name) == ("named", "Checkout service")
    assert named.labels == {"team": "payments", "Cost_Centre2": ""}


@pytest.mark.parametrize(("region", "endpoint"), ENDPOINTS.items())
def test_region(read, region, endpoint):
    """Each region has an endpoint of its own."""
    assert read(MINIMAL.replace("cn-north-4", region)).projects[0].base_url == endpoint
    assert region in endpoint


TRAPS = ["12222", "012", "0x1f", "1e5", "no", "on", "y", "true", "1_000", "2026-01-31"]


@pytest.mark.parametrize("text", TRAPS)
def test_ids_stay_text(read, text):
    """What YAML would take for a number, a date or a truth is the id that it looks like."""
    [project] = read(MINIMAL.replace(PIPELINES, f"[{text}, {{id: x{text}, name: {text}}}]")).projects
    assert [entry.id for entry in project.pipelines] == [text, f"x{text}"]
    assert project.pipelines[1].name == text


@pytest.mark.parametrize("text", [*TRAPS, "12:30:45", "1.10", ".5", "=", "Yes", "'null'", '"~"'])
def test_names_and_labels_stay_text(read, text):
    """So are names and values of labels, and secrets."""
    entry = f"[{{id: a, name: {text}, labels: {{team: {text}}}}}]"
    config = read(MINIMAL.replace(PIPELINES, entry).replace("opensesame", text).replace("payments", text))
    [project] = config.projects
    plain = text.strip("'\"")
    assert project.name == plain
    assert project.pipelines[0].name == plain
    assert project.pipelines[0].labels == {"team": plain}
    assert project.auth.token.reveal() == plain


@pytest.mark.parametrize("word", ["true", "True", "yes", "on", "1"])
def test_words_for_true(read, word):
    """The usual words for true are understood where one is wanted."""
    assert read(f"metrics: {{created_series: {word}}}\n{MINIMAL}").metrics.created_series is True


def test_keys_without_value_are_left_out(read):
    """A key that nothing follows keeps its default, in whichever way nothing is written."""
    config = read("""
        poll:
          interval:
          timeout: ~
          max_age: null
        metrics:
        projects:
          - name: payments
            provider: codearts
            region: cn-north-4
            endpoint:
            project_id: 54f90b75fc1447b1b65e8d3a9f77923d
            stage_time_zone:
            rate_limit:
            auth:
              method: aksk
              access_key: a
              access_key_file:
              secret_key:
              secret_key_file: sk
              security_token:
              security_token_file:
            pipelines:
              - id: d19799d619424b2bb2625ec2d93ea087
                name:
                labels:
    """)
    assert config.poll == read(MINIMAL).poll
    assert config.metrics == read(MINIMAL).metrics
    [project] = config.projects
    assert project.base_url == ENDPOINTS["cn-north-4"]
    assert project.rate_limit.burst == 20
    assert project.auth.security_token is None
    assert project.pipelines[0].labels == {}


def test_empty_sections(read):
    """An empty mapping is a section with every default."""
    config = read(f"poll: {{}}\nmetrics: {{}}\n{MINIMAL}    rate_limit: {{}}\n")
    assert config.poll.interval == 60.0
    assert config.projects[0].rate_limit.requests_per_second == 10


def test_anchors_and_merge_keys(read):
    """Projects can share what they have in common; what stands beside a merge wins."""
    config = read("""
        projects:
          - &first
            name: payments
            provider: codearts
            region: cn-north-4
            project_id: p1
            auth: &auth
              method: aksk
              access_key: shared
              secret_key: shared
            rate_limit: {burst: 1}
            pipelines:
              - {id: a, labels: &labels {team: payments, tier: gold}}
          - <<: *first
            name: orders
            rate_limit: {burst: 2}
            auth: {<<: *auth, secret_key: own}
            pipelines:
              - {id: b, labels: *labels}
              - {id: c, labels: {<<: *labels, team: orders}}
    """)
    payments, orders = config.projects
    assert (orders.name, orders.region, orders.rate_limit.burst) == ("orders", "cn-north-4", 2)
    assert (orders.auth.access_key.reveal(), orders.auth.secret_key.reveal()) == ("shared", "own")
    assert orders.pipelines[0].labels == payments.pipelines[0].labels
    assert orders.pipelines[1].labels == {"team": "orders", "tier": "gold"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${PART}", "value"),
        ("a-${PART}-b", "a-value-b"),
        ("${PART}${PART}", "valuevalue"),
        ("$${PART}", "${PART}"),
        ("$${", "${"),
        ("$$${PART}", "$${PART}"),
        ("$PART", "$PART"),
        ("a$", "a$"),
        ("{PART}", "{PART}"),
        ("${NESTED}", "${PART}"),
        ("${YAML}", "{a: [1"),
    ],
)
@pytest.mark.parametrize("quote", ["'", '"'])
def test_variables(read, text, value, quote):
    """`${NAME}` is the variable's value, taken as it is; `$${` is a plain `${`; any other `$` is itself."""
    config = read(
        MINIMAL.replace("name: payments", f"name: {quote}{text}{quote}"),
        PART="value",
        NESTED="${PART}",
        YAML="{a: [1",
    )
    assert config.projects[0].name == value


def test_variables_anywhere(read):
    """A variable can stand in any value: in lists, numbers, durations, paths, and without quotes in block style."""
    config = read(
        MINIMAL.replace(PIPELINES, '["${ID}"]').replace("name: payments", "name: ${ID}")
        + "poll:\n  interval: ${SECONDS}s\n  chunk_size: ${SECONDS}\n",
        ID="a-b",
        SECONDS="90",
    )
    assert config.projects[0].name == "a-b"
    assert config.projects[0].pipelines[0].id == "a-b"
    assert (config.poll.interval, config.poll.chunk_size) == (90.0, 90)


def test_variables_are_not_taken_from_comments(read):
    """A comment may name a variable that is not set."""
    assert read(f"# token: ${{NOT_SET}}\n{MINIMAL}").projects


@pytest.mark.parametrize(
    ("path", "where"),
    [("token", "{}/token"), ("secrets/token", "{}/secrets/token"), ("/run/token", "/run/token")],
)
def test_secret_files(read, tmp_path, path, where):
    """A relative path of a secret begins at the folder of the configuration, not at the working one."""
    config = read(MINIMAL.replace("token: opensesame", f"token_file: {path}"))
    assert config.projects[0].auth.token.path == Path(where.format(tmp_path))


def test_secret_file_is_not_read_by_loading(read, tmp_path):
    """A secret that is mounted later is no fault of the configuration."""
    token = read(MINIMAL.replace("token: opensesame", "token_file: token")).projects[0].auth.token
    (tmp_path / "token").write_text("opensesame\n")
    assert token.reveal() == "opensesame"


def test_the_same_pipeline_id_in_two_clouds(read):
    """Two clouds may use one id: they are two pipelines."""
    second = (
        MINIMAL.replace("projects:\n", "").replace("payments", "orders").replace("cn-north-4", "cn-east-3")
    )
    assert len(read(MINIMAL + second).projects) == 2


def test_byte_order_mark(read):
    """The mark that some editors put first does no harm."""
    assert read("\ufeff" + MINIMAL.lstrip()).projects


def test_effective_is_a_configuration(read, tmp_path):
    """The configuration in force is YAML that means the same, but for its secrets."""
    config = read(MINIMAL)
    text = config.effective()
    assert yaml.safe_load(text)["projects"][0]["auth"] == {"method": "token", "token": MASK}
    assert read(text).effective() == text
