"""Request budget and credentials of a project at one moment."""

import msgspec


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Snapshot of a project's request budget and credentials."""

    requests_per_minute: int
    """Requests in the last minute."""
    allowed_per_minute: int
    """Requests that `rate_limit` allows in a minute."""
    budget_left: int
    """Requests that may be sent at once now."""
    budget: int
    """Maximum of `budget_left`."""
    credentials_accepted: bool | None
    """Whether the provider accepted the credentials in its latest decision; None before the first one."""
    credentials_expire: float | None
    """When the credentials expire, in Unix seconds; None if unknown."""
    credentials_renewal: str
    """How the credentials are renewed: `auto` (by the exporter) or `manual` (by a person)."""
