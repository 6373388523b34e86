"""Which format and coding a scraper gets, by its `Accept` and `Accept-Encoding` (RFC 9110, section 12.5).

Own, since prometheus-client's ignores q-values and fails on a malformed version. Whatever is asked, the answer is one
that Prometheus takes: text 0.0.4 is the last resort, as its content negotiation has it
(https://prometheus.io/docs/instrumenting/content_negotiation/).
"""

from collections.abc import Iterator

from exporter.exposition import Format

_LONGEST = 4096


def choose_format(accept: str) -> Format:
    """The format with the higher q-value; on equal ones that which is named first, a wildcard last."""
    best = (0.0, False)
    chosen = Format.TEXT
    for name, parameters, weight in _ranges(accept):
        match name, parameters.get("version"):
            case "application/openmetrics-text", "1.0.0" | None:
                form, named = Format.OPENMETRICS, True
            case "text/plain", "0.0.4" | None:
                form, named = Format.TEXT, True
            case "text/*" | "*/*", _:
                form, named = Format.TEXT, False
            case _:
                continue
        if weight > 0 and (weight, named) > best:
            best, chosen = (weight, named), form
    return chosen


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether the client takes gzip: named, or by `*`, with a q-value above 0."""
    weights = {name: weight for name, _, weight in _ranges(accept_encoding)}
    return weights.get("gzip", weights.get("*", 0.0)) > 0


def _ranges(header: str) -> Iterator[tuple[str, dict[str, str], float]]:
    for item in header[:_LONGEST].split(","):
        name, *rest = (part.strip().lower() for part in item.split(";"))
        pairs = (part.partition("=") for part in rest)
        parameters = {key.strip(): value.strip().strip('"') for key, _, value in pairs}
        try:
            weight = float(parameters.pop("q", "1"))
        except ValueError:
            continue
        if name and 0 <= weight <= 1:
            yield name, parameters, weight
