"""The TLS context of the server."""

import contextlib
import os
import ssl
from collections.abc import Iterator

from exporter.web.web_config import CIPHER_SUITES, TlsServer, read

_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}


class TlsError(Exception):
    """A certificate, key or cipher suite cannot be used; the message says which and what to do."""


def server_context(settings: TlsServer) -> ssl.SSLContext:
    """Return the context of a server with these settings.

    Raises:
        ConfigError: a file cannot be read.
        TlsError: a certificate or key cannot be used.

    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[settings.min_version]
    context.maximum_version = _VERSIONS[settings.max_version]
    context.set_alpn_protocols(["http/1.1"])
    if not settings.prefer_server_cipher_suites:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    suites = [suite for name in settings.cipher_suites if (suite := CIPHER_SUITES[name]) is not None]
    if suites:
        context.set_ciphers(":".join(suites))
    _load_certificate(context, settings)
    if settings.verifies_clients:
        required = settings.client_auth_type == "RequireAndVerifyClientCert"
        context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
        _load_client_authorities(context, settings)
    return context


def _load_certificate(context: ssl.SSLContext, settings: TlsServer) -> None:
    certificate = (
        read(settings.cert_file) if settings.cert_file is not None else (settings.cert or "").encode()
    )
    if settings.key_file is not None:
        key = read(settings.key_file)
    else:
        key = settings.key.reveal().encode() if settings.key is not None else b""
    with _readable(certificate) as certificate_path, _readable(key) as key_path:
        try:
            context.load_cert_chain(certificate_path, key_path, password=_refuse_password)
        except ssl.SSLError as error:
            mismatch = error.reason == "KEY_VALUES_MISMATCH"
            problem = (
                "the key is not that of the certificate" if mismatch else "not a certificate and its key"
            )
            names = f"{settings.cert_file or 'cert'}, {settings.key_file or 'key'}"
            raise TlsError(f"{names}: {problem} (give both in PEM form)") from None


def _load_client_authorities(context: ssl.SSLContext, settings: TlsServer) -> None:
    if settings.client_ca is None and settings.client_ca_file is None:
        context.load_default_certs(ssl.Purpose.CLIENT_AUTH)
        return
    authorities = (
        read(settings.client_ca_file)
        if settings.client_ca_file is not None
        else (settings.client_ca or "").encode()
    )
    try:
        context.load_verify_locations(cadata=authorities.decode("ascii"))
    except (ssl.SSLError, ValueError):
        name = settings.client_ca_file or "client_ca"
        raise TlsError(f"{name}: holds no certificates (give them in PEM form)") from None


@contextlib.contextmanager
def _readable(content: bytes) -> Iterator[str]:
    """Provide a path from which `ssl` can read content that is only in memory."""
    descriptor = os.memfd_create("pem")
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _refuse_password() -> str:
    # Otherwise OpenSSL asks for the password on the terminal.
    raise TlsError("the key is encrypted (give a key without a password)")
