"""Check whether a host can be reached: name resolution, and a TLS handshake without a request."""

import asyncio
import contextlib
import ssl
from pathlib import Path

from exporter.client.transport import tls_context


class UnreachableError(Exception):
    """A host cannot be reached; the message says why."""


class UntrustedError(UnreachableError):
    """The certificate of a host is not trusted."""


async def resolve(host: str, timeout: float) -> list[str]:
    """Return the addresses of a host.

    Raises:
        UnreachableError: it has no address, or the name server does not respond in time.

    """
    try:
        async with asyncio.timeout(timeout):
            found = await asyncio.get_running_loop().getaddrinfo(host, None)
    except TimeoutError:
        raise UnreachableError(f"no answer from the name server within {timeout:g} s") from None
    except (OSError, UnicodeError) as error:
        raise UnreachableError(str(error)) from None
    return sorted({str(address[4][0]) for address in found})


async def certificate_end(
    host: str, port: int, timeout: float, *, ca_file: Path | None, verify: bool
) -> float | None:
    """Return when the certificate of a host expires, in Unix seconds; None without `verify`.

    Raises:
        UnreachableError: there is no TLS connection in time.
        UntrustedError: the certificate is not trusted.

    """
    try:
        async with asyncio.timeout(timeout):
            _, writer = await asyncio.open_connection(host, port, ssl=tls_context(ca_file, verify=verify))
    except ssl.SSLCertVerificationError as error:
        raise UntrustedError(error.verify_message) from None
    except TimeoutError:
        raise UnreachableError(f"no connection within {timeout:g} s") from None
    except (OSError, ssl.SSLError) as error:
        raise UnreachableError(str(error)) from None
    certificate = writer.get_extra_info("peercert") or {}
    writer.close()
    with contextlib.suppress(OSError, ssl.SSLError):
        await writer.wait_closed()
    return ssl.cert_time_to_seconds(certificate["notAfter"]) if verify else None
