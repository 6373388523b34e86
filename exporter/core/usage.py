"""How a project uses what its provider allows."""

import msgspec


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """How a project uses its request budget and its credentials."""

    requests_per_minute: int
    """Requests in the last minute."""
    allowed_per_minute: int
    """Requests that `rate_limit` allows in a minute."""
    budget_left: int
    """Requests that may be sent at once now."""
    budget: int
    """The most that it can be."""
    credentials_accepted: bool | None
    """Whether the provider accepted the credentials last; None before its first answer."""
    credentials_expire: float | None
    """Epoch seconds; None if that is unknown."""
    credentials_renewal: str
    """`auto` or `manual`."""
