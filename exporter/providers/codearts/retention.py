"""Query how long CodeArts keeps runs. The API reference of CodeArts Pipeline lacks the operation."""

from urllib.parse import quote

import msgspec

from exporter.providers.protocol import ApiRequest

RETENTION = "ShowRecordVisibleDays"
DAYS = "record_visible_days"


class _Owner(msgspec.Struct):
    domain_id: str = ""
    project_id: str = ""
    region: str = ""


class _Days(msgspec.Struct):
    record_visible_days: int


def request(detail: bytes) -> ApiRequest | None:
    """Return the request about the account that a run's details name; None if they do not name one."""
    try:
        owner = msgspec.json.decode(detail, type=_Owner)
    except msgspec.MsgspecError:
        return None
    if not (owner.domain_id and owner.project_id and owner.region):
        return None
    return ApiRequest(
        operation=RETENTION,
        method="GET",
        path=f"/v5/{quote(owner.domain_id, safe='')}/api/whitelist/record-visible-days",
        query=(
            ("domain_id", owner.domain_id),
            ("region", owner.region),
            ("project_id", owner.project_id),
        ),
    )


def days(body: bytes) -> int | None:
    """Return the number of days in a response; None if it has no such number."""
    try:
        return msgspec.json.decode(body, type=_Days).record_visible_days
    except msgspec.MsgspecError:
        return None
