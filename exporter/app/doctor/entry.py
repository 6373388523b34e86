"""The checks of an entry of the configuration that finds projects: whether its list of projects can be read."""

import msgspec

from exporter.app.doctor.checks import Check, CheckState, Name, entry, fault, ok
from exporter.app.doctor.network import check_network
from exporter.app.project import EntryFinder
from exporter.core.clock import Clock

SAMPLE = 5
"""Maximum number of found projects of an entry to examine."""

_CHECKS = {
    "credentials-rejected": Name.CREDENTIALS,
    "credentials-missing": Name.CREDENTIALS,
    "project-refused": Name.PERMISSION,
    "requests-refused": Name.PERMISSION,
    "implausible-list": Name.MEMBERSHIP,
}
"""The check that a failure belongs to, by its heading in docs/troubleshooting.md; any other is one of the answer."""
_PERMISSION = "the user needs to be a member of each project, and to be allowed to list projects"


async def check_entry(found: EntryFinder, timeout: float, clock: Clock) -> list[Check]:
    """Return the checks of an entry whose list was read once."""
    finder = found.finder
    url = finder.search.base_url
    checks = await check_network(found.settings, url, timeout=timeout, now=clock.time())
    if not any(check.state is CheckState.FAULT for check in checks):
        checks.append(_list(found))
    return [msgspec.structs.replace(check, project=found.settings.name) for check in checks]


def _list(found: EntryFinder) -> Check:
    finder = found.finder
    cause = finder.cause
    if cause is None:
        number = len(finder.projects)
        examined = f", examining the first {SAMPLE}" if number > SAMPLE else ""
        return ok(Name.PROJECTS, f"{number} found{examined}")
    codes = " ".join(code for code in (cause.code, cause.error_code) if code)
    check = _CHECKS.get(cause.remedy, Name.ANSWER)
    remedy = entry(cause.remedy)
    if check in {Name.PERMISSION, Name.MEMBERSHIP}:
        remedy = f"{_PERMISSION}: {remedy}"
    return fault(check, f"{cause.operation} failed: {codes}: {cause.message}", remedy)
