"""Test the choice of format and coding with headers of real clients and with malformed ones."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.exposition import Format
from exporter.exposition.negotiation import accepts_gzip, choose_format

TEXT, OPENMETRICS = Format.TEXT, Format.OPENMETRICS

PROMETHEUS_2_42 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3_5 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
PROMETHEUS_3_0 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;escaping=allow-utf-8;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;escaping=allow-utf-8;q=0.3,*/*;q=0.2"
)
PROMETHEUS_3_15_OPENMETRICS_2 = (
    "application/openmetrics-text;version=2.0.0;escaping=allow-utf-8;q=0.7,"
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.3"
)
PROMETHEUS_TEXT_ONLY = "text/plain;version=0.0.4;q=1,*/*;q=0.1"
PROTOBUF = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
PROMETHEUS_2_42_PROTOBUF = (
    f"{PROTOBUF},application/openmetrics-text;version=1.0.0;q=0.8,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3_4_PROTOBUF = (
    f"{PROTOBUF};q=0.6,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,"
    "text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)
FIREFOX = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
CHROME = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8"

OM = "application/openmetrics-text"


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        pytest.param(PROMETHEUS_2_42, OPENMETRICS, id="Prometheus 2.42"),
        pytest.param(PROMETHEUS_3_5, OPENMETRICS, id="Prometheus 3.5"),
        pytest.param(PROMETHEUS_TEXT_ONLY, TEXT, id="Prometheus configured for text"),
        pytest.param(PROMETHEUS_3_0, OPENMETRICS, id="Prometheus 3.0, which repeats a parameter"),
        pytest.param(
            PROMETHEUS_3_15_OPENMETRICS_2, OPENMETRICS, id="Prometheus 3.15 that prefers OpenMetrics 2.0"
        ),
        pytest.param("*/*", TEXT, id="curl"),
        pytest.param(FIREFOX, TEXT, id="Firefox"),
        pytest.param(CHROME, TEXT, id="Chrome"),
        pytest.param("text/plain", TEXT, id="text"),
        pytest.param(OM, OPENMETRICS, id="OpenMetrics without a version"),
        pytest.param(f"{OM};version=1.0.0", OPENMETRICS, id="OpenMetrics 1.0.0"),
    ],
)
def test_real_clients_get_the_format_that_they_prefer(accept, expected):
    assert choose_format(accept) is expected


@pytest.mark.parametrize(
    ("accept", "without_created", "with_created"),
    [
        pytest.param(PROMETHEUS_2_42_PROTOBUF, TEXT, OPENMETRICS, id="Prometheus 2.42"),
        pytest.param(PROMETHEUS_3_4_PROTOBUF, TEXT, OPENMETRICS, id="Prometheus 3.4"),
        pytest.param(f"{PROTOBUF};q=0.1,{OM};q=0.5", OPENMETRICS, OPENMETRICS, id="protobuf as last resort"),
        pytest.param(f"{PROTOBUF};q=0.5,{OM};q=0.5", OPENMETRICS, OPENMETRICS, id="protobuf and text alike"),
        pytest.param(f"{PROTOBUF};q=0,{OM};q=0.1", OPENMETRICS, OPENMETRICS, id="protobuf refused"),
    ],
)
def test_client_that_prefers_protobuf_gets_openmetrics_only_with_created_series(
    accept, without_created, with_created
):
    assert choose_format(accept) is without_created
    assert choose_format(accept, created_series=True) is with_created


@pytest.mark.parametrize(
    "accept",
    [
        "",
        " ",
        ",",
        ";",
        ",;=,",
        "q=1",
        ";q=1",
        "application/json",
        "image/*",
        f"{OM};version=x",
        f"{OM};version=",
        f"{OM};version=0.0.1",
        f"{OM};version=9.9.9",
        f"{OM};q=0",
        f"{OM};q=0.000",
        f"{OM};q=x",
        f"{OM};q=",
        f"{OM};q=-1",
        f"{OM};q=1.1",
        f"{OM};q=nan",
        f"{OM};q=inf",
        "text/plain;version=1.0.0;escaping=allow-utf-8",
        "text/plain;q=0",
        f"text/plain;q=0,{OM};q=0",
        "a" * 1_000_000,
        "application/json," * 100_000,
        "text/html;" * 100_000,
        f"{'application/json,' * 100_000}{OM}",
        "\x00\xff\N{SNOWMAN}",
    ],
    ids=lambda accept: repr(accept[:40]),
)
def test_malformed_rejected_or_unsupported_types_get_text(accept):
    assert choose_format(accept) is TEXT


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (f'{OM}; version="1.0.0"', OPENMETRICS),
        (f"{OM} ; version = 1.0.0 ; q = 0.9 , text/plain ; q = 0.8", OPENMETRICS),
        ("APPLICATION/OpenMetrics-Text;Version=1.0.0;Q=0.9,TEXT/PLAIN;Q=0.8", OPENMETRICS),
        (f"{OM};charset=utf-8;version=1.0.0", OPENMETRICS),
        (f"{OM};version=9.9.9,{OM};version=1.0.0;q=0.4,text/plain;q=0.3", OPENMETRICS),
        (f"{OM};version=9.9.9,text/plain;version=0.0.4;q=0.1", TEXT),
        (f"{OM};q=2,text/plain;q=0.1", TEXT),
    ],
)
def test_case_spaces_and_quotes_do_not_matter_and_unreadable_ranges_are_skipped(accept, expected):
    assert choose_format(accept) is expected


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (f"text/plain;q=0.5,{OM};q=0.6", OPENMETRICS),
        (f"text/plain;q=0.6,{OM};q=0.5", TEXT),
        (f"text/plain;q=0.001,{OM};q=0", TEXT),
        (f"text/plain;q=0,{OM};q=0.001", OPENMETRICS),
        (f"text/plain,{OM}", TEXT),
        (f"{OM},text/plain", OPENMETRICS),
        (f"{OM};q=0.5,text/plain;q=0.5", OPENMETRICS),
        (f"*/*,{OM}", OPENMETRICS),
        (f"text/*,{OM}", OPENMETRICS),
        (f"*/*;q=0.9,{OM};q=0.8", TEXT),
        (f"{OM};q=0.3,text/*;q=0.9", TEXT),
        (f"{OM};q=0.3,text/plain;q=0.2,*/*", OPENMETRICS),
        (f"{OM};q=0.3,text/plain;q=0,text/*", OPENMETRICS),
    ],
)
def test_higher_q_value_wins_then_the_first_then_the_named_type(accept, expected):
    assert choose_format(accept) is expected


@pytest.mark.parametrize(
    ("accept_encoding", "expected"),
    [
        ("gzip", True),  # Prometheus
        ("deflate, gzip, br, zstd", True),  # curl --compressed
        ("gzip, deflate, br", True),  # browsers
        ("GZIP", True),
        ("gzip;q=1.0", True),
        ("gzip;q=0.001", True),
        ("gzip ; q = 0.5 , identity ; q = 0.5", True),
        ("gzip, identity", True),
        ("gzip;q=0.5, identity;q=0.4", True),
        ("*", True),
        ("*;q=0.1", True),
        ("*;q=0, gzip", True),
        ("", False),
        ("identity", False),
        ("br, deflate", False),
        ("gzip;q=0.5, identity", False),
        ("*;q=0.5, identity;q=0.6", False),
        ("gzip;q=0", False),
        ("gzip;q=0.0", False),
        ("gzip;q=0, *", False),
        ("*, gzip;q=0", False),
        ("*;q=0", False),
        ("identity;q=1, *;q=0", False),
        ("gzip;q=x", False),
        ("gzip;q=7", False),
        ("gzipped", False),
        ("," * 1_000_000, False),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_gzip_needs_a_q_value_above_zero_and_not_below_identity(accept_encoding, expected):
    assert accepts_gzip(accept_encoding) is expected


pieces = st.sampled_from(
    [OM, "text/plain", "*/*", ";", ",", "=", "q", "version", "1.0.0", "0.5", '"', " ", "-"]
)


@given(st.one_of(st.text(max_size=60), st.lists(pieces, max_size=25).map("".join)))
def test_no_header_raises(header):
    assert choose_format(header) in Format
    assert accepts_gzip(header) in {True, False}
