"""Simulated IAM, which issues tokens for passwords, and checks and revokes them.

It is served on the same port as the services, under its own paths, so a client needs only one address.
"""

import hmac
import json
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from exporter.simulator.codearts import gateway
from exporter.simulator.codearts.gateway import Credentials, GatewayLockouts
from exporter.simulator.codearts.records import derive_id
from exporter.simulator.codearts.switches import CodeArtsSwitches
from exporter.simulator.http.answers import Answer, DeclinedError
from exporter.simulator.world.world import World

# Real tokens are signed messages of a few thousand characters, which has broken clients that expect less.
_TOKEN_BYTES = 1_500
_REMEMBERED_TOKENS = 1_000


def format_time(moment: float) -> str:
    """Return Unix seconds in the text format of IAM: UTC, with microseconds."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@dataclass(frozen=True, slots=True)
class _Request:
    """A parsed token request; `project` is the name or the id of an IAM project."""

    domain: str
    user: str
    password: str
    project: str


class Iam:
    """Issues, checks and revokes tokens for the IAM project of `world`."""

    def __init__(self, world: World, switches: CodeArtsSwitches, lockouts: GatewayLockouts) -> None:
        self._world = world
        self._switches = switches
        self._lockouts = lockouts
        self._expiry: dict[str, float] = {}
        self._revoked: set[str] = set()

    def issue(self, body: bytes, credentials: Credentials, now: float, *, catalog: bool) -> Answer:
        """Handle KeystoneCreateUserTokenByPassword; raise `DeclinedError` with 400, 401 or 503."""
        if self._switches.iam_down:
            raise _error(503, "Service Unavailable", "The service is unavailable.")
        requested = _parse(body)
        if requested is None:
            raise _error(400, "Bad Request", "The request body is invalid")
        client = f"user {requested.user}"
        if self._lockouts.locked(client, now):
            raise _error(401, "Unauthorized", "The user is locked.")
        given, expected = (
            "\n".join(text).encode()
            for text in (
                (requested.domain, requested.user, requested.password),
                (credentials.domain, credentials.username, credentials.password),
            )
        )
        wrong = self._switches.credentials_expired or not hmac.compare_digest(given, expected)
        self._lockouts.record(client, wrong=wrong, now=now)
        if wrong:
            raise _error(401, "Unauthorized", "The username or password is wrong.")
        world = self._world
        if requested.project not in {world.region, world.iam_project_id}:
            raise _error(401, "Unauthorized", "The request you have made requires authentication.")
        token = "MII" + secrets.token_urlsafe(_TOKEN_BYTES)
        expires = now + self._switches.token_lifetime
        self._expiry[token] = expires
        while len(self._expiry) > _REMEMBERED_TOKENS:
            oldest = next(iter(self._expiry))
            del self._expiry[oldest]
            self._revoked.discard(oldest)
        described = self._description(credentials, now, expires, catalog=catalog)
        return Answer({"token": described}, 201, {"X-Subject-Token": token})

    def knows(self, token: str) -> bool:
        """Return whether IAM has issued that token."""
        return token in self._expiry

    def refusal(self, token: str, now: float) -> gateway.GatewayRefusal | None:
        """Return the error for an issued token that is expired or revoked at `now`, or None."""
        if now >= self._expiry[token]:
            return expired(self._expiry[token])
        return gateway.REVOKED if token in self._revoked else None

    def revoke(self) -> None:
        """Revoke all tokens issued so far, as a password change does."""
        self._revoked.update(self._expiry)

    def _description(
        self, credentials: Credentials, now: float, expires: float, *, catalog: bool
    ) -> dict[str, Any]:
        world = self._world
        domain = {"id": world.domain_id, "name": credentials.domain}
        endpoint = {"id": derive_id("endpoint"), "interface": "public", "region": world.region}
        service = {"id": derive_id("service"), "name": "iam", "type": "identity", "endpoints": [endpoint]}
        return {
            "expires_at": format_time(expires),
            "issued_at": format_time(now),
            "methods": ["password"],
            "catalog": [service] if catalog else [],
            "domain": domain,
            "roles": [{"id": "0", "name": "te_admin"}],
            "project": {"domain": domain, "id": world.iam_project_id, "name": world.region},
            "user": {
                "domain": domain,
                "id": derive_id(world.domain_id, credentials.username),
                "name": credentials.username,
                "password_expires_at": "",
            },
        }


def expired(expiry: float) -> gateway.GatewayRefusal:
    """Return the gateway's error for a token that expired at `expiry` (Unix seconds)."""
    return gateway.unauthorized(f"token expires, expires_at: {format_time(expiry)}")


def _error(status: int, title: str, message: str) -> DeclinedError:
    return DeclinedError(status, {"error": {"code": status, "message": message, "title": title}})


def _parse(body: bytes) -> _Request | None:
    """Return a request for a token of a project by password; None for any other body."""
    try:
        auth = json.loads(body)["auth"]
        if auth["identity"]["methods"] != ["password"]:
            return None
        user, project = auth["identity"]["password"]["user"], auth["scope"]["project"]
        scope = project["id"] if "id" in project else project["name"]
        requested = (user["domain"]["name"], user["name"], user["password"], scope)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return _Request(*requested) if all(isinstance(text, str) for text in requested) else None
