"""Any text as a configuration or duration gives a result or an error message, never a traceback."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.config.duration import LONGEST, SHORTEST, format_duration, parse_duration
from exporter.settings.load import ConfigError, load
from tests.marks import examples

ROOT = Path(__file__).parents[3]
SEEDS = [
    (ROOT / "config.example.yaml").read_text(),
    *(file.read_text() for file in sorted((Path(__file__).parents[2] / "config" / "bad").glob("*.yaml"))),
]
LINES = sorted({line for seed in SEEDS for line in seed.splitlines() if len(line) < 200})
WORDS = sorted({word for line in LINES for word in re.findall(r"[\w$.*&!-]+", line)})


@given(st.integers(min_value=100, max_value=int(LONGEST * 1000)))
def test_formatted_duration_parses_to_the_same_value(milliseconds):
    seconds = milliseconds / 1000
    assert parse_duration(format_duration(seconds)) == seconds


_UNITS = st.sampled_from(["ms", "s", "m", "h", "d", "w", "y", ""])
_COUNTS = st.one_of(st.integers(0, 1000), st.integers(0, 10**12)).map(str)


@given(
    st.one_of(
        st.text(),
        st.from_regex(r"[0-9\u0660-\u0669.+-]*[a-z]*", fullmatch=True),
        st.lists(st.builds(str.__add__, _COUNTS, _UNITS), max_size=8).map("".join),
    )
)
def test_any_text_is_a_duration_or_refused(text):
    message = seconds = None
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        message = str(error)
    if seconds is None:
        assert message is not None
        assert re.fullmatch(r".+ is (not a duration|too short|too long) \(.+\)", message)
    else:
        assert SHORTEST <= seconds <= LONGEST
        assert parse_duration(format_duration(seconds)) == seconds


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("config") / "config.yaml"


def check_load(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    message = None
    try:
        load(file, {"HUAWEICLOUD_SDK_AK": "opensesame"})
    except ConfigError as error:
        message = str(error)
    if message is not None:
        last = len(re.findall("[\n\r\x85\u2028\u2029]", content.decode(errors="replace"))) + 2
        for fault in message.split("\n"):
            match = re.fullmatch(rf"{re.escape(str(file))}:([0-9]+): (\S+): (\S.*)", fault)
            assert match, fault
            assert 1 <= int(match[1]) <= last, fault


@given(st.one_of(st.text().map(str.encode), st.binary()))
@settings(deadline=None)
def test_any_file_is_loaded_or_refused_with_lines_and_keys(file, content):
    check_load(file, content)


@given(
    st.lists(
        st.one_of(
            st.sampled_from(WORDS),
            st.sampled_from(
                [*"\n[]{}:,-#&*!|>'\"%@`?~$ \t", "\n  ", "\n    - ", ": ", "<<: ", "${", "&a ", "*a", "? "]
            ),
        ),
        max_size=60,
    ).map("".join)
)
@settings(deadline=None)
def test_text_like_yaml_is_loaded_or_refused(file, text):
    check_load(file, text.encode())


@st.composite
def mutants(draw):
    lines = draw(st.sampled_from(SEEDS)).splitlines() or [""]
    for _ in range(draw(st.integers(1, 6))):
        index = draw(st.integers(0, max(len(lines) - 1, 0)))
        line = lines[index] if lines else ""
        change = draw(st.sampled_from(["drop", "double", "indent", "dedent", "strange", "word", "cut"]))
        if change == "drop":
            lines[index : index + 1] = []
        elif change == "double":
            lines.insert(index, line)
        elif change == "indent":
            lines[index : index + 1] = [f"  {line}"]
        elif change == "dedent":
            lines[index : index + 1] = [line[1:]]
        elif change == "strange":
            lines.insert(index, draw(st.sampled_from(LINES)))
        elif change == "word":
            old = draw(st.sampled_from(re.findall(r"[^\s:,]+", line) or [" "]))
            lines[index : index + 1] = [
                line.replace(old, draw(st.sampled_from(WORDS) | st.text(max_size=4)), 1)
            ]
        else:
            lines[index : index + 1] = [line[: draw(st.integers(0, len(line)))]]
    return "\n".join(lines)


@given(mutants())
@examples(300)
def test_damaged_configuration_is_loaded_or_refused(file, text):
    check_load(file, text.encode())


FULL: dict[str, Any] = {
    "poll": {"interval": "60s", "chunk_size": "50"},
    "metrics": {
        "run_info_labels": ["trigger"],
        "details": "jobs",
        "run_duration_buckets": ["15s", "1m"],
        "created_series": "no",
    },
    "projects": [
        {
            "name": "payments",
            "provider": "codearts",
            "region": "cn-north-4",
            "endpoint": "https://pipeline.example.com",
            "project_id": "p1",
            "stage_time_zone": "Asia/Shanghai",
            "rate_limit": {"requests_per_second": "10", "burst": "20"},
            "labels": {"team": "payments"},
            "url_template": "https://devcloud.example.com/{project_id}/{pipeline_id}",
            "auth": {"method": method, **others},
            "discover": {
                "interval": "10m",
                "include": [".*"],
                "exclude": ["sandbox-.*"],
                "labels": [{"match": "pay-.*", "labels": {"team": "payments"}}],
            },
            "tls": {"ca_file": "ca.pem", "insecure_skip_verify": "no"},
            "proxy": "http://user:opensesame@proxy.example.com:3128",
            "pipelines": ["a", {"id": "b", "name": "c", "labels": {"team": "payments"}}],
        }
        for method, others in (
            ("token", {"token": "opensesame", "expires": "2027-01-31"}),
            ("aksk", dict.fromkeys(["access_key", "secret_key", "security_token"], "opensesame")),
            ("password", {"domain": "company", "username": "exporter", "password": "opensesame"}),
            ("metadata", {"metadata_endpoint": "http://127.0.0.1:1"}),
            ("default", {}),
        )
    ],
}
FULL["projects"] += [
    {
        "name": "mobile",
        "provider": "flow",
        "organization_id": "o1",
        "auth": auth,
        "edition": edition,
        "endpoint": "https://example.devops.aliyuncs.com",
        "pipelines": ["12222", {"id": "12223", "name": "c", "labels": {"team": "payments"}}],
    }
    for edition, auth in (
        ("region", {"method": "yunxiao_token", "token": "opensesame"}),
        ("central", {"method": "aksk", "access_key": "opensesame", "secret_key": "opensesame"}),
    )
]
KEYS = sorted(set(re.findall(r"\b[a-z_]+(?=:)", "\n".join(LINES))))
VALUES = st.recursive(
    st.none()
    | st.sampled_from([*KEYS, *WORDS, "", "[key]"])
    | st.text(max_size=3)
    | st.integers()
    | st.floats(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | st.text(), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.data())
@examples(300)
def test_values_of_any_shape_are_loaded_or_refused(file, data):
    config = copy.deepcopy(FULL)
    for _ in range(data.draw(st.integers(1, 3))):
        node: Any = config
        while True:
            keys = sorted(node) if isinstance(node, dict) else range(len(node))
            if not keys:
                break
            key = data.draw(st.sampled_from(keys))
            if isinstance(node[key], dict | list) and data.draw(st.integers(0, 4)):
                node = node[key]
                continue
            node[key] = data.draw(VALUES)
            break
    check_load(file, yaml.safe_dump(config, allow_unicode=True).encode())
