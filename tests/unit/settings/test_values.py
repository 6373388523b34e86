"""Values of a valid configuration: defaults, every key, and text that is not converted."""

from datetime import UTC, datetime
from pathlib import Path
from textwrap import dedent
from zoneinfo import ZoneInfo

import pytest
import yaml

from exporter.core.redaction import MASK
from exporter.providers.codearts import ENDPOINTS
from exporter.settings.load import ConfigError, load

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


def test_defaults_are_those_of_the_documentation(read):
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
        "details": "none",
        "run_histogram": "pipeline",
        "stage_histogram": "project",
        "run_duration_buckets": (
            "15s", "30s", "1m", "2m", "5m", "10m", "20m", "30m", "1h", "2h", "4h", "8h", "1d",
        ),
        "stage_duration_buckets": ("10s", "30s", "1m", "2m", "5m", "10m", "20m", "30m", "1h", "2h"),
        "created_series": False,
    }  # fmt: skip
    assert config.state.path is None
    [project] = config.projects
    assert project.stage_time_zone == ZoneInfo("Asia/Shanghai")
    assert (project.rate_limit.requests_per_second, project.rate_limit.burst) == (10, 20)
    assert project.endpoint is None
    assert (project.labels, project.url_template, project.discover, project.proxy) == ({}, None, None, None)
    assert project.tls.model_dump() == {"ca_file": None, "insecure_skip_verify": False}
    assert project.auth.expires is None
    [pipeline] = project.pipelines
    assert (pipeline.id, pipeline.name, pipeline.labels) == ("d19799d619424b2bb2625ec2d93ea087", None, {})


def test_every_key_takes_effect(read):
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
          details: steps
          run_histogram: project
          stage_histogram: off
          run_duration_buckets: [1m, 1h]
          stage_duration_buckets: [500ms]
          created_series: true
        state:
          path: /var/lib/pipeline-exporter/state.db
        projects:
          - name: payments
            provider: codearts
            region: nowhere-1
            endpoint: http://127.0.0.1:8080/clouds/
            project_id: p-1
            stage_time_zone: Europe/Dublin
            rate_limit: {requests_per_second: 0.5, burst: 1}
            labels: {team: payments}
            url_template: https://devcloud.example.com/{project_id}/pipelines/{pipeline_id}?tab=runs#top
            auth:
              method: aksk
              access_key: the access key
              secret_key: the secret key
              security_token: the security token
              iam_project_id: iam-1
              expires: 2027-01-31T12:00:00+08:00
            pipelines:
              - plain
              - id: named
                name: Checkout service
                labels: {team: payments, Cost_Centre2: ""}
            discover:
              interval: 1h
              include: ['pay-.*', checkout]
              exclude: ['.*-sandbox']
              labels:
                - {match: 'pay-.*', labels: {team: payments}}
                - {match: '.*-eu', labels: {area: europe}}
            tls: {insecure_skip_verify: true}
            proxy: http://proxy.example.com:3128
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
    assert config.metrics.details == "steps"
    assert config.metrics.created_series is True
    assert config.state.path == "/var/lib/pipeline-exporter/state.db"
    [project] = config.projects
    assert (project.name, project.project_id) == ("payments", "p-1")
    assert project.base_url == "http://127.0.0.1:8080/clouds"
    assert project.stage_time_zone == ZoneInfo("Europe/Dublin")
    assert (project.rate_limit.requests_per_second, project.rate_limit.burst) == (0.5, 1)
    assert project.auth.access_key.reveal() == "the access key"
    assert project.auth.secret_key.reveal() == "the secret key"
    assert project.auth.security_token.reveal() == "the security token"
    assert project.auth.iam_project_id == "iam-1"
    assert project.auth.expires == datetime(2027, 1, 31, 4, tzinfo=UTC)
    assert project.labels == {"team": "payments"}
    assert project.page_url("x") == "https://devcloud.example.com/p-1/pipelines/x?tab=runs#top"
    assert project.discover.interval == 3600.0
    assert [pattern.pattern for pattern in project.discover.include] == ["pay-.*", "checkout"]
    assert [pattern.pattern for pattern in project.discover.exclude] == [".*-sandbox"]
    assert [rule.labels for rule in project.discover.labels] == [{"team": "payments"}, {"area": "europe"}]
    assert project.tls.insecure_skip_verify is True
    assert project.proxy.reveal() == "http://proxy.example.com:3128"
    plain, named = project.pipelines
    assert (plain.id, plain.name) == ("plain", None)
    assert (named.id, named.name) == ("named", "Checkout service")
    assert named.labels == {"team": "payments", "Cost_Centre2": ""}


@pytest.mark.parametrize(("region", "endpoint"), ENDPOINTS.items())
def test_region_selects_the_endpoint(read, region, endpoint):
    assert read(MINIMAL.replace("cn-north-4", region)).projects[0].base_url == endpoint
    assert region in endpoint


TRAPS = ["12222", "012", "0x1f", "1e5", "no", "on", "y", "true", "1_000", "2026-01-31"]


@pytest.mark.parametrize("text", TRAPS)
def test_ids_stay_text(read, text):
    """YAML would read these ids as numbers, dates or booleans."""
    [project] = read(MINIMAL.replace(PIPELINES, f"[{text}, {{id: x{text}, name: {text}}}]")).projects
    assert [entry.id for entry in project.pipelines] == [text, f"x{text}"]
    assert project.pipelines[1].name == text


@pytest.mark.parametrize("text", [*TRAPS, "12:30:45", "1.10", ".5", "=", "Yes", "'null'", '"~"'])
def test_names_labels_and_secrets_stay_text(read, text):
    entry = f"[{{id: a, name: {text}, labels: {{team: {text}}}}}]"
    config = read(MINIMAL.replace(PIPELINES, entry).replace("opensesame", text).replace("payments", text))
    [project] = config.projects
    plain = text.strip("'\"")
    assert project.name == plain
    assert project.pipelines[0].name == plain
    assert project.pipelines[0].labels == {"team": plain}
    assert project.auth.token.reveal() == plain


@pytest.mark.parametrize(
    "more",
    [
        r'    labels: {team: "\ud800"}',
        r'    discover: {labels: [{match: a, labels: {team: "\ud800"}}]}',
        r'    pipelines: [{id: a, labels: {team: "\ud800"}}]',
    ],
)
def test_label_outside_utf_8_is_refused(read, more):
    """YAML accepts half a surrogate pair, but the metrics page cannot contain it."""
    with pytest.raises(ConfigError, match=r"labels\.team: '\\ud800' cannot be encoded as UTF-8$"):
        read(MINIMAL.replace(f"    pipelines: {PIPELINES}\n", "") + more)


@pytest.mark.parametrize("word", ["true", "True", "yes", "on", "1"])
def test_common_spellings_of_true_are_accepted(read, word):
    assert read(f"metrics: {{created_series: {word}}}\n{MINIMAL}").metrics.created_series is True


def test_keys_without_value_keep_their_defaults(read):
    config = read("""
        poll:
          interval:
          timeout: ~
          max_age: null
        metrics:
        state:
          path:
        projects:
          - name: payments
            provider: codearts
            region: cn-north-4
            endpoint:
            project_id: 54f90b75fc1447b1b65e8d3a9f77923d
            stage_time_zone:
            rate_limit:
            labels:
            url_template:
            auth:
              method: aksk
              access_key: a
              access_key_file:
              secret_key:
              secret_key_file: sk
              security_token:
              security_token_file:
              iam_project_id:
              expires:
            pipelines:
              - id: d19799d619424b2bb2625ec2d93ea087
                name:
                labels:
            discover:
            tls:
              ca_file:
              insecure_skip_verify:
            proxy:
            proxy_file:
    """)
    assert config.poll == read(MINIMAL).poll
    assert config.metrics == read(MINIMAL).metrics
    assert config.state == read(MINIMAL).state
    [project] = config.projects
    assert project.base_url == ENDPOINTS["cn-north-4"]
    assert project.rate_limit.burst == 20
    assert project.auth.security_token is None
    assert project.pipelines[0].labels == {}
    assert project.tls == read(MINIMAL).projects[0].tls
    assert (project.labels, project.url_template, project.discovery, project.proxy) == ({}, None, None, None)


def test_empty_sections_have_every_default(read):
    config = read(f"poll: {{}}\nmetrics: {{}}\nstate: {{}}\n{MINIMAL}    rate_limit: {{}}\n")
    assert config.poll.interval == 60.0
    assert config.state.path is None
    assert config.projects[0].rate_limit.requests_per_second == 10


def test_keys_take_precedence_over_merged_ones(read):
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
def test_variables_are_replaced_once(read, text, value, quote):
    """`$${` is a plain `${`. Any other `$` stays as it is."""
    config = read(
        MINIMAL.replace("name: payments", f"name: {quote}{text}{quote}"),
        PART="value",
        NESTED="${PART}",
        YAML="{a: [1",
    )
    assert config.projects[0].name == value


def test_variables_are_replaced_in_any_value(read):
    """In lists, numbers, durations and paths, and without quotes in block style."""
    config = read(
        MINIMAL.replace(PIPELINES, '["${ID}"]').replace("name: payments", "name: ${ID}")
        + "poll:\n  interval: ${SECONDS}s\n  chunk_size: ${SECONDS}\n",
        ID="a-b",
        SECONDS="90",
    )
    assert config.projects[0].name == "a-b"
    assert config.projects[0].pipelines[0].id == "a-b"
    assert (config.poll.interval, config.poll.chunk_size) == (90.0, 90)


def test_unset_variables_in_comments_are_ignored(read):
    assert read(f"# token: ${{NOT_SET}}\n{MINIMAL}").projects


WITHOUT_LIST = MINIMAL.replace(f"    pipelines: {PIPELINES}\n", "")


@pytest.mark.parametrize(
    "nothing", ["", "    pipelines:\n", "    pipelines: []\n", "    discover:\n", "    discover: {}\n"]
)
def test_without_a_list_everything_is_discovered(read, nothing):
    [project] = read(WITHOUT_LIST + nothing).projects
    assert project.pipelines == ()
    assert project.discovery.interval == 600.0
    assert project.discovery.matches("any name at all")


@pytest.mark.parametrize("nothing", ["", "    discover:\n", "    discover: ~\n"])
def test_with_a_list_and_empty_discover_nothing_is_discovered(read, nothing):
    assert read(MINIMAL + nothing).projects[0].discovery is None


def test_with_a_list_and_a_discover_mapping_others_are_discovered(read):
    """An empty mapping enables discovery, a missing value does not."""
    [project] = read(MINIMAL + "    discover: {}\n").projects
    assert len(project.pipelines) == 1
    assert project.discovery.matches("checkout")


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("pay-api", True),
        ("pay-", True),
        ("my-pay-api", False),
        ("checkout", True),
        ("checkout-2", False),
        ("pay-sandbox", False),
        ("pay-sandbox-2", True),
        ("支付-api", True),
        ("", False),
    ],
)
def test_patterns_match_whole_names(read, name, taken):
    discover = "{include: ['pay-.*', checkout, '\\w+-api'], exclude: ['.*-sandbox']}"
    assert read(f"{WITHOUT_LIST}    discover: {discover}\n").projects[0].discovery.matches(name) is taken


def test_last_matching_rule_sets_a_label(read):
    """The labels of every rule that matches are given; of several for one label the last wins."""
    rules = """
        - {match: '.*', labels: {team: default, tier: silver}}
        - {match: 'pay-.*', labels: {team: payments}}
    """
    [project] = read(f"{WITHOUT_LIST}    discover:\n      labels:{rules}").projects
    assert project.discover.labels_of("pay-api") == {"team": "payments", "tier": "silver"}
    assert project.discover.labels_of("checkout") == {"team": "default", "tier": "silver"}


def test_pattern_with_a_future_warning_is_accepted_without_warning(read):
    [project] = read(f"{WITHOUT_LIST}    discover: {{include: ['[[a]x']}}\n").projects
    assert project.discovery.matches("[x")


@pytest.mark.parametrize(
    ("text", "page"),
    [
        ("https://devcloud.example.com/{pipeline_id}", "https://devcloud.example.com/i"),
        (
            "http://devcloud.example.com/?p={project_id}&p={project_id}",
            "http://devcloud.example.com/?p=p&p=p",
        ),
        ("https://{project_id}.example.com", "https://p.example.com"),
    ],
)
def test_url_template_is_filled_at_every_placeholder(read, text, page):
    text = MINIMAL.replace("54f90b75fc1447b1b65e8d3a9f77923d", "p") + f"    url_template: '{text}'\n"
    assert read(text).projects[0].page_url("i") == page


@pytest.mark.parametrize(
    ("template", "page"),
    [
        (
            "https://x.example.com/{project_id}/{pipeline_id}/{run_id}?n={run_number}",
            "https://x.example.com/p/i/r%2F1?n=7",
        ),
        ("https://x.example.com/latest", "https://x.example.com/latest"),
        (f"https://x.example.com/{{run_id}}/{'y' * 256}", ""),
    ],
)
def test_run_url_template_is_filled_at_every_placeholder(read, template, page):
    text = MINIMAL.replace("54f90b75fc1447b1b65e8d3a9f77923d", "p") + f"    run_url_template: '{template}'\n"
    project = read(text).projects[0]
    assert project.run_url("i", "r/1", 7) == page
    assert read(MINIMAL).projects[0].run_url("i", "r", 7) == ""


@pytest.mark.parametrize(("placeholder", "run", "number"), [("{run_id}", "", 7), ("{run_number}", "r", None)])
def test_run_url_template_gives_nothing_without_what_it_needs(read, placeholder, run, number):
    text = MINIMAL + f"    run_url_template: 'https://x.example.com/{placeholder}'\n"
    assert read(text).projects[0].run_url("i", run, number) == ""


AUTH = "{method: token, token: opensesame}"


def test_password_auth_derives_iam_from_the_region(read):
    auth = "{method: password, domain: company, username: exporter, password_file: pw}"
    [project] = read(MINIMAL.replace(AUTH, auth)).projects
    assert project.auth.project_in(project.region) == "cn-north-4"
    assert project.auth.endpoint_in(project.region) == "https://iam.cn-north-4.myhuaweicloud.com"
    assert (project.auth.domain, project.auth.username) == ("company", "exporter")


def test_password_auth_without_region_uses_configured_iam(read):
    auth = "{method: password, domain: c, username: u, password: p, iam_project: one, iam_endpoint: 'http://127.0.0.1:1/'}"
    text = MINIMAL.replace(AUTH, auth).replace("region: cn-north-4", "endpoint: http://127.0.0.1:2")
    [project] = read(text).projects
    assert project.auth.project_in(project.region) == "one"
    assert project.auth.endpoint_in(project.region) == "http://127.0.0.1:1"


@pytest.mark.parametrize("method", ["metadata", "default"])
@pytest.mark.parametrize(
    ("more", "endpoint"),
    [
        ("", "http://169.254.169.254"),
        (", metadata_endpoint: 'http://127.0.0.1:1/x/'", "http://127.0.0.1:1/x"),
    ],
)
def test_platform_auth_needs_no_further_keys(read, method, more, endpoint):
    """Tests can set the endpoint of the metadata service."""
    auth = read(MINIMAL.replace(AUTH, f"{{method: {method}{more}}}")).projects[0].auth
    assert (auth.method, auth.metadata_endpoint) == (method, endpoint)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2027-01-31", datetime(2027, 1, 31, tzinfo=UTC)),
        ("2027-01-31T12:00:00Z", datetime(2027, 1, 31, 12, tzinfo=UTC)),
        ("'2027-01-31 12:00:00+08:00'", datetime(2027, 1, 31, 4, tzinfo=UTC)),
    ],
)
def test_expires_is_a_date_in_utc_or_a_time_with_zone(read, text, moment):
    auth = AUTH.replace("}", f", expires: {text}}}")
    assert read(MINIMAL.replace(AUTH, auth)).projects[0].auth.expires == moment


CERTIFICATES = Path(__file__).parents[2] / "config" / "ca"


@pytest.mark.parametrize("folder", ["", "pki/"])
def test_relative_ca_file_starts_at_the_folder_of_the_configuration(read, tmp_path, folder):
    """Not at the working directory. A file can have several certificates."""
    (tmp_path / folder).mkdir(exist_ok=True)
    one = (CERTIFICATES / "good.pem").read_text()
    (tmp_path / folder / "ca.pem").write_text(f"Our own authority\n{one}\nand another\n{one}")
    [project] = read(f"{MINIMAL}    tls: {{ca_file: {folder}ca.pem}}\n").projects
    assert project.tls.ca_file == tmp_path / folder / "ca.pem"


def test_absolute_ca_file_is_used_unchanged(read):
    [project] = read(f"{MINIMAL}    tls: {{ca_file: {CERTIFICATES / 'good.pem'}}}\n").projects
    assert project.tls.ca_file == CERTIFICATES / "good.pem"


@pytest.mark.parametrize(
    "url",
    [
        "http://proxy.example.com:3128",
        "https://proxy.example.com/",
        "http://user:open%23sesame@proxy.example.com:3128",
        "http://[::1]:3128",
    ],
)
def test_proxy_can_be_a_url_or_a_file(read, tmp_path, url):
    assert read(f"{MINIMAL}    proxy: '{url}'\n").projects[0].proxy.reveal() == url
    (tmp_path / "proxy").write_text(f"{url}\n")
    assert read(f"{MINIMAL}    proxy_file: proxy\n").projects[0].proxy.reveal() == url


@pytest.mark.parametrize(
    ("path", "where"),
    [("token", "{}/token"), ("secrets/token", "{}/secrets/token"), ("/run/token", "/run/token")],
)
def test_relative_secret_file_starts_at_the_folder_of_the_configuration(read, tmp_path, path, where):
    """Not at the working directory."""
    config = read(MINIMAL.replace("token: opensesame", f"token_file: {path}"))
    assert config.projects[0].auth.token.path == Path(where.format(tmp_path))


def test_secret_file_is_not_read_by_loading(read, tmp_path):
    """A secret may be mounted later."""
    token = read(MINIMAL.replace("token: opensesame", "token_file: token")).projects[0].auth.token
    (tmp_path / "token").write_text("opensesame\n")
    assert token.reveal() == "opensesame"


def test_same_pipeline_id_in_two_clouds_is_two_pipelines(read):
    second = (
        MINIMAL.replace("projects:\n", "").replace("payments", "orders").replace("cn-north-4", "cn-east-3")
    )
    assert len(read(MINIMAL + second).projects) == 2


def test_byte_order_mark_is_ignored(read):
    assert read("\ufeff" + MINIMAL.lstrip()).projects


def test_effective_configuration_loads_as_the_same_except_secrets(read, tmp_path):
    config = read(MINIMAL)
    text = config.effective()
    auth = yaml.safe_load(text)["projects"][0]["auth"]
    assert auth == {"method": "token", "token": MASK, "expires": None}
    assert read(text).effective() == text


def test_effective_configuration_has_every_kind_of_value(read):
    """Patterns, dates, time zones and paths of files."""
    certificate = CERTIFICATES / "good.pem"
    more = f"""\
    url_template: https://devcloud.example.com/{{pipeline_id}}
    labels: {{team: payments}}
    discover: {{interval: 90m, exclude: ['^sandbox-.*'], labels: [{{match: 'pay-.*', labels: {{a: b}}}}]}}
    tls: {{ca_file: {certificate}}}
"""
    auth = AUTH.replace("}", ", expires: 2027-01-31}")
    text = read(MINIMAL.replace(AUTH, auth) + more).effective()
    [project] = yaml.safe_load(text)["projects"]
    assert project["auth"]["expires"] == "2027-01-31T00:00:00Z"
    assert project["tls"] == {"ca_file": str(certificate), "insecure_skip_verify": False}
    assert project["discover"] == {
        "interval": "1h30m",
        "include": [".*"],
        "exclude": ["^sandbox-.*"],
        "labels": [{"match": "pay-.*", "labels": {"a": "b"}}],
    }
    assert read(text).effective() == text
