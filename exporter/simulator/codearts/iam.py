"""IAM as the cloud has it: a password in, a token out, and what becomes of tokens.

It stands on the same port as the services, under its own paths, so that a client has to be told one address
only, or twice the same.
"""

import hmac
import json
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from exporter.simulator.codearts import gateway
from exporter.simulator.codearts.gateway import Credentials
from exporter.simulator.codearts.records import identity
from exporter.simulator.codearts.switches import CodeArtsSwitches
from exporter.simulator.http.answers import DeclinedError, Good
from exporter.simulator.http.limits import Locks
from exporter.simulator.world.world import World

# Real tokens are signed messages of some thousand letters, which has broken clients that expect less.
_TOKEN_BYTES = 1_500
_REMEMBERED_TOKENS = 1_000


def moment_text(moment: float) -> str:
    """Write Unix seconds as IAM does: UTC, with microseconds."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@dataclass(frozen=True, slots=True)
class _Request:
    """What a body asks for; `project` is the name or the id of an IAM project."""

    domain: str
    user: str
    password: str
    project: str


class Iam:
    """Issues tokens for the project of `world` and knows afterwards what they are worth."""

    def __init__(self, world: World, switches: CodeArtsSwitches, locks: Locks) -> None:
        self._world = world
        self._switches = switches
        self._locks = locks
        self._expiry: dict[str, float] = {}
        self._revoked: set[str] = set()

    def issue(self, body: bytes, credentials: Credentials, now: float, *, catalog: bool) -> Good:
        """Answer KeystoneCreateUserTokenByPassword; raises `DeclinedError` with 400, 401 or 503."""
        if self._switches.iam_down:
            raise _declined(503, "Service Unavailable", "The service is unavailable.")
        asked = _parsed(body)
        if asked is None:
            raise _declined(400, "Bad Request", "The request body is invalid")
        who = f"user {asked.user}"
        if self._locks.locked(who, now):
            raise _declined(401, "Unauthorized", "The user is locked.")
        given, right = (
            "\n".join(text).encode()
            for text in (
                (asked.domain, asked.user, asked.password),
                (credentials.domain, credentials.username, credentials.password),
            )
        )
        wrong = not hmac.compare_digest(given, right)
        self._locks.note(who, wrong=wrong, now=now)
        if wrong:
            raise _declined(401, "Unauthorized", "The username or password is wrong.")
        world = self._world
        if asked.project not in {world.region, world.iam_project_id}:
            raise _declined(401, "Unauthorized", "The request you have made requires authentication.")
        token = "MII" + secrets.token_urlsafe(_TOKEN_BYTES)
        expires = now + self._switches.token_lifetime
        self._expiry[token] = expires
        while len(self._expiry) > _REMEMBERED_TOKENS:
            forgotten = next(iter(self._expiry))
            del self._expiry[forgotten]
            self._revoked.discard(forgotten)
        described = self._description(credentials, now, expires, catalog=catalog)
        return Good({"token": described}, 201, {"X-Subject-Token": token})

    def knows(self, token: str) -> bool:
        """Tell whether it has issued that token."""
        return token in self._expiry

    def refusal(self, token: str, now: float) -> gateway.Refusal | None:
        """Say why a token that it knows is worth nothing at `now`, or None if it is good."""
        if now >= self._expiry[token]:
            return gateway.unauthorized(f"token expires, expires_at: {moment_text(self._expiry[token])}")
        return gateway.REVOKED if token in self._revoked else None

    def revoke(self) -> None:
        """Make all tokens issued so far worthless, as a changed password does."""
        self._revoked.update(self._expiry)

    def _description(
        self, credentials: Credentials, now: float, expires: float, *, catalog: bool
    ) -> dict[str, Any]:
        world = self._world
        domain = {"id": world.domain_id, "name": credentials.domain}
        endpoint = {"id": identity("endpoint"), "interface": "public", "region": world.region}
        service = {"id": identity("service"), "name": "iam", "type": "identity", "endpoints": [endpoint]}
        return {
            "expires_at": moment_text(expires),
            "issued_at": moment_text(now),
            "methods": ["password"],
            "catalog": [service] if catalog else [],
            "domain": domain,
            "roles": [{"id": "0", "name": "te_admin"}],
            "project": {"domain": domain, "id": world.iam_project_id, "name": world.region},
            "user": {
                "domain": domain,
                "id": identity(world.domain_id, credentials.username),
                "name": credentials.username,
                "password_expires_at": "",
            },
        }


def _declined(status: int, title: str, message: str) -> DeclinedError:
    return DeclinedError(status, {"error": {"code": status, "message": message, "title": title}})


def _parsed(body: bytes) -> _Request | None:
    """Read a request by password for a project; None for everything else."""
    try:
        auth = json.loads(body)["auth"]
        if auth["identity"]["methods"] != ["password"]:
            return None
        user, project = auth["identity"]["password"]["user"], auth["scope"]["project"]
        scope = project["id"] if "id" in project else project["name"]
        asked = (user["domain"]["name"], user["name"], user["password"], scope)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return _Request(*asked) if all(isinstance(text, str) for text in asked) else None
