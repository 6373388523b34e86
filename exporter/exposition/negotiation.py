"""Which format and coding a scraper gets, by its `Accept` and `Accept-Encoding` (RFC 9110, section 12.5).

Own, since prometheus-client's ignores q-values and fails on a malformed version. Whatever is asked, the answer is one
that Prometheus takes: text 0.0.4 is the last resort, as its content negotiation has it
(https://prometheus.io/docs/instrumenting/content_negotiation/).
"""

from collections.abc import Iterator

from exporter.exposition import Format

_LONGEST = 4096


def choose_format(accept: str) -> Format:
    """The format with the higher q-value; on equal ones that which is named first.

    A wildcard speaks for text only, and only where text is not named.
    """
    weights: dict[Format, float] = {}
    wildcard = 0.0
    for name, parameters, weight in _ranges(accept):
        match name, parameters.get("version"):
            case "application/openmetrics-text", "1.0.0" | None:
                form = Format.OPENMETRICS
            case "text/plain", "0.0.4" | None:
                form = Format.TEXT
            case "text/*" | "*/*", _:
                wildcard = max(wildcard, weight)
                continue
            case _:
                continue
        weights[form] = max(weight, weights.get(form, 0.0))
    weights.setdefault(Format.TEXT, wildcard)
    best = max(weights, key=lambda form: weights[form])
    return best if weights[best] > 0 else Format.TEXT


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether the client takes gzip: named, or by `*`, with a q-value above 0 and not below that of `identity`."""
    weights = {name: weight for name, _, weight in _ranges(accept_encoding)}
    gzip = weights.get("gzip", weights.get("*", 0.0))
    return gzip > 0 and gzip >= weights.get("identity", 0.0)


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
