"""Choose the format and content coding of a page from `Accept` and `Accept-Encoding` (RFC 9110, section 12.5).

The function of prometheus-client is not used: it ignores q-values and fails on a malformed version. Text 0.0.4 is the
fallback, as for Prometheus itself (https://prometheus.io/docs/instrumenting/content_negotiation/).
"""

from collections.abc import Iterator

from exporter.exposition.render import Format

_MAX_LENGTH = 4096


def choose_format(accept: str, *, created_series: bool = False) -> Format:
    """Return the format with the highest q-value; of equal ones, the first in the header.

    A wildcard counts for text only, and only if the header does not name text.

    A client that prefers protobuf, which is not available, searches OpenMetrics for `_created` lines. Without
    `created_series`, Prometheus 3 then reads the rest of the family for each series and takes minutes for a large page, so
    such a client gets text.
    """
    weights: dict[Format, float] = {}
    wildcard = protobuf = 0.0
    for name, parameters, weight in _ranges(accept):
        match name, parameters.get("version"):
            case "application/openmetrics-text", "1.0.0" | None:
                form = Format.OPENMETRICS
            case "text/plain", "0.0.4" | None:
                form = Format.TEXT
            case "application/vnd.google.protobuf", _:
                protobuf = max(protobuf, weight)
                continue
            case "text/*" | "*/*", _:
                wildcard = max(wildcard, weight)
                continue
            case _:
                continue
        weights[form] = max(weight, weights.get(form, 0.0))
    weights.setdefault(Format.TEXT, wildcard)
    best = max(weights, key=lambda form: weights[form])
    if protobuf > weights[best]:
        return Format.OPENMETRICS if created_series else Format.TEXT
    return best if weights[best] > 0 else Format.TEXT


def accepts_gzip(accept_encoding: str) -> bool:
    """Return True if gzip, by name or by `*`, has a q-value above 0 and not below that of `identity`."""
    weights = {name: weight for name, _, weight in _ranges(accept_encoding)}
    gzip = weights.get("gzip", weights.get("*", 0.0))
    return gzip > 0 and gzip >= weights.get("identity", 0.0)


def _ranges(header: str) -> Iterator[tuple[str, dict[str, str], float]]:
    """Yield the name, parameters and q-value of each element of a header; skip malformed elements."""
    for element in header[:_MAX_LENGTH].split(","):
        name, *rest = (part.strip().lower() for part in element.split(";"))
        pairs = (part.partition("=") for part in rest)
        parameters = {key.strip(): value.strip().strip('"') for key, _, value in pairs}
        try:
            weight = float(parameters.pop("q", "1"))
        except ValueError:
            continue
        if name and 0 <= weight <= 1:
            yield name, parameters, weight
