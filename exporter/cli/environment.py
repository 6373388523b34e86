"""Find environment variables that look like flags of the exporter, but are not."""

import difflib
import re
from collections.abc import Collection, Iterable

from exporter.cli.parser import FLAGS

_PREFIX = "PIPELINE_EXPORTER_"
_OF_A_SERVICE = re.compile(rf"{_PREFIX}(.*_)?(SERVICE_HOST|SERVICE_PORT.*|PORT.*)")
"""Variables that Kubernetes sets in each pod for a Service named `pipeline-exporter` or `pipeline-exporter-…`."""


def unknown_variables(names: Iterable[str], used: Collection[str] = ()) -> dict[str, str]:
    """Return the variables that have no effect, each with a hint that may be empty.

    `used` are those that the configuration refers to.
    """
    known = {flag.variable for flag in FLAGS.values()}.union(used)
    found = {}
    for name in sorted(names):
        if name.startswith(_PREFIX) and name not in known and not _OF_A_SERVICE.fullmatch(name):
            near = difflib.get_close_matches(name, known, n=1)
            found[name] = f"did you mean {near[0]}?" if near else ""
    return found
