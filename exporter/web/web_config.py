"""The web configuration file, in the common format of Prometheus exporters: TLS, passwords, headers and a rate limit.

Format: https://github.com/prometheus/exporter-toolkit/blob/v0.14.0/docs/web-configuration.md. What Python's `ssl` or the
server cannot do is reported as a fault, because a setting must not be silently ignored.
"""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from exporter.config.duration import parse_interval
from exporter.config.files import NotUsableError, read_file
from exporter.config.secret import Secret
from exporter.config.section import Context, Section, resolve_path
from exporter.config.yaml_source import Fault, read_document
from exporter.core.redaction import MASK
from exporter.settings.load import ConfigError
from exporter.settings.messages import faults_of

FILE_LIMIT = 4 << 20
"""Maximum size in bytes of the web configuration file, and of each file that it names."""

MAX_COST = 16
"""Largest allowed bcrypt cost, at which a check takes about five seconds. Each further step would double that."""

HEADERS: dict[str, tuple[str, ...]] = {
    "Content-Security-Policy": (),
    "Strict-Transport-Security": (),
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": (),
}
"""The response headers that can be set, each with its allowed values; an empty tuple allows any value."""

CIPHER_SUITES = {
    "TLS_AES_128_GCM_SHA256": None,
    "TLS_AES_256_GCM_SHA384": None,
    "TLS_CHACHA20_POLY1305_SHA256": None,
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
}
"""OpenSSL's names of the cipher suites, by the names that Go and the file use. None: always on, as in Go (TLS 1.3)."""

_HASH = re.compile(r"\$2[abxy]?\$(?P<cost>[0-9]{2})\$[./A-Za-z0-9]{53}")
_UNVERIFIED = frozenset({"RequestClientCert", "RequireAnyClientCert", "RequireClientCert"})
_VERIFIED = frozenset({"VerifyClientCertIfGiven", "RequireAndVerifyClientCert"})
_OLD = frozenset({"TLS10", "TLS11"})


class Hidden(Secret):
    """A secret to which `Section` adds no second key with the suffix `_file`, unlike `Secret`."""


def _file(value: object, info: ValidationInfo) -> Path:
    if not isinstance(value, str) or not value:
        raise ValueError("must be the path of a file")
    return Path(resolve_path(value, info))


def _pem(value: object) -> Hidden:
    if not isinstance(value, str):
        raise ValueError("must be text in PEM form")  # noqa: TRY004  # pydantic collects ValueError
    return Hidden(value)


def _password_hash(value: object) -> Hidden:
    match = _HASH.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("must be a bcrypt hash ($2y$10$…, as htpasswd -nBC 10 USER prints it)")
    if not 4 <= int(match["cost"]) <= MAX_COST:
        raise ValueError(f"has a bcrypt cost of {match['cost']} (use one from 4 to {MAX_COST})")
    return Hidden(match.group())


def _version(value: str) -> str:
    if value in _OLD:
        raise ValueError(f"{value} is not supported, since OpenSSL disables it (use TLS12 or TLS13)")
    return value


def _cipher_suite(value: str) -> str:
    if value not in CIPHER_SUITES:
        raise ValueError(f"unknown cipher suite (known: {', '.join(CIPHER_SUITES)})")
    return value


def _unsupported(value: object) -> object:
    if value:
        raise ValueError("is not supported (remove it)")
    return value


_File = Annotated[Path, PlainValidator(_file), PlainSerializer(str, return_type=str)]
_Masked = PlainSerializer(lambda _: MASK, return_type=str)
_Version = Annotated[Literal["TLS10", "TLS11", "TLS12", "TLS13"], AfterValidator(_version)]


class TlsServer(Section):
    """`tls_server_config`: certificates and versions of the server."""

    cert: str | None = None
    cert_file: _File | None = None
    key: Annotated[Hidden, PlainValidator(_pem), _Masked] | None = None
    key_file: _File | None = None
    client_ca: str | None = None
    client_ca_file: _File | None = None
    client_auth_type: str = "NoClientCert"
    client_allowed_sans: Annotated[tuple[str, ...], BeforeValidator(_unsupported)] = ()
    min_version: _Version = "TLS12"
    max_version: _Version = "TLS13"
    cipher_suites: tuple[Annotated[str, AfterValidator(_cipher_suite)], ...] = ()
    prefer_server_cipher_suites: bool = True
    curve_preferences: Annotated[tuple[str, ...], BeforeValidator(_unsupported)] = ()

    @field_validator("client_auth_type")
    @classmethod
    def _check_client_auth_type(cls, value: str) -> str:
        if value in _UNVERIFIED:
            raise ValueError(
                f"{value} is not supported, since a certificate that is not verified proves nothing "
                f"(use {' or '.join(sorted(_VERIFIED))})"
            )
        if value not in {"NoClientCert", *_VERIFIED}:
            raise ValueError(f"must be one of: NoClientCert, {', '.join(sorted(_VERIFIED))}")
        return value

    @model_validator(mode="after")
    def _check_combination(self) -> "TlsServer":
        for name in ("cert", "key", "client_ca"):
            if getattr(self, name) is not None and getattr(self, f"{name}_file") is not None:
                raise ValueError(f"{name} and {name}_file are given (keep one)")
        if self.enabled:
            for name in ("cert", "key"):
                if getattr(self, name) is None and getattr(self, f"{name}_file") is None:
                    raise ValueError(f"{name}_file is missing (TLS needs cert_file and key_file)")
        if not self.verifies_clients and (self.client_ca is not None or self.client_ca_file is not None):
            raise ValueError(f"a client CA has no effect with NoClientCert (use {min(_VERIFIED)})")
        if self.min_version > self.max_version:
            raise ValueError("min_version is above max_version")
        return self

    @property
    def enabled(self) -> bool:
        """Whether the server uses TLS."""
        keys = (self.cert, self.cert_file, self.key, self.key_file, self.client_ca, self.client_ca_file)
        return any(key is not None for key in keys) or self.client_auth_type != "NoClientCert"

    @property
    def verifies_clients(self) -> bool:
        """Whether certificates of clients are verified."""
        return self.client_auth_type in _VERIFIED


class HttpServer(Section):
    """`http_server_config`: response headers. `http2` has no effect: the server speaks HTTP/1.1."""

    http2: bool = True
    headers: dict[str, str] = Field(default_factory=dict)

    @field_validator("headers")
    @classmethod
    def _check_headers(cls, headers: dict[str, str]) -> dict[str, str]:
        for name, value in headers.items():
            if name not in HEADERS:
                raise ValueError(f"header {name!r} cannot be set (only {', '.join(HEADERS)})")
            if HEADERS[name] and value not in HEADERS[name]:
                raise ValueError(f"{name} must be {' or '.join(HEADERS[name])}")
            if not value.isascii() or not value.isprintable():
                raise ValueError(f"{name} must be one line of ASCII text")
        return headers


class RequestRateLimit(Section):
    """`rate_limit`: one request per interval, after a burst."""

    interval: Annotated[float, BeforeValidator(lambda value: parse_interval(str(value)))] = 0.0
    """Seconds; 0 means no limit."""
    burst: int = Field(0, ge=0, le=1_000_000)

    @model_validator(mode="after")
    def _check_burst(self) -> "RequestRateLimit":
        if self.interval and not self.burst:
            raise ValueError("burst must be 1 or more (with 0 every request would be rejected)")
        return self


class WebConfig(Section):
    """Settings of a web configuration file."""

    tls_server_config: TlsServer = TlsServer()
    http_server_config: HttpServer = HttpServer()
    basic_auth_users: dict[str, Annotated[Hidden, PlainValidator(_password_hash), _Masked]] = Field(
        default_factory=dict
    )
    """The bcrypt hash of each user's password."""
    rate_limit: RequestRateLimit = RequestRateLimit()

    @field_validator("basic_auth_users", mode="before")
    @classmethod
    def _check_users(cls, users: Any) -> Any:
        for user in users if isinstance(users, dict) else ():
            if not user or ":" in user:
                raise ValueError("the name of a user must not be empty and has no colon (RFC 7617)")
        return users


def load_web_config(file: Path, content: bytes) -> WebConfig:
    """Return the settings of a web configuration file with this content.

    `file` is the base of relative paths, and is named in errors.

    Raises:
        ConfigError: the file has faults; the error lists all of them.

    """
    try:
        document = read_document(content.decode(), None)
    except UnicodeDecodeError:
        raise ConfigError(file, [Fault(1, "(file)", "is not UTF-8 text (save it as UTF-8)")]) from None
    if document.faults:
        raise ConfigError(file, document.faults)
    context = Context(file.parent)
    try:
        return WebConfig.model_validate({} if document.root is None else document.root, context=context)
    except ValidationError as error:
        raise ConfigError(file, faults_of(error, document, context)) from None


def read(file: Path) -> bytes:
    """Return the content of the web configuration or of a file that it names.

    Raises:
        ConfigError: the file cannot be read.

    """
    try:
        return read_file(file, FILE_LIMIT)
    except NotUsableError as error:
        raise ConfigError(file, [Fault(1, "(file)", str(error))]) from None
    except OSError as error:
        raise ConfigError(file, [Fault(1, "(file)", f"cannot be read: {error.strerror}")]) from None
