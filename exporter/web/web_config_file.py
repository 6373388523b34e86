"""Reload the web configuration when its file, or a file that it names, changes."""

import asyncio
import hashlib
import logging
import ssl
from collections.abc import Callable
from pathlib import Path

from exporter.core.redaction import redact
from exporter.settings.load import ConfigError
from exporter.web.tls import TlsError, server_context
from exporter.web.web_config import WebConfig, load_web_config, read

CHECK_INTERVAL = 5.0
"""Seconds between two checks of the files."""

_log = logging.getLogger("exporter.web.web_config_file")


class WebConfigFile:
    """The web configuration in force: the last one without faults."""

    def __init__(self, file: Path) -> None:
        """Read the file.

        Raises:
            ConfigError: it has faults.
            TlsError: a certificate or key cannot be used.

        """
        self._file = file
        self.settings, self.tls, self._digest = _load(file)
        self._failed: bytes | str | None = None
        """Message of the last failure, which is not logged again; None after a success."""

    def check(self) -> bool | None:
        """Reload the files if they have changed; return whether that succeeded, None if nothing has changed."""
        try:
            digest = _digest(read(self._file), self.settings)
            if digest == self._digest and self._failed is None:
                return None
            settings, tls, digest = _load(self._file)
        except (ConfigError, TlsError) as error:
            if str(error) == self._failed:
                return None
            self._failed = str(error)
            _log.error(
                "web configuration not reloaded, keeping the one in force",
                extra={
                    "id": "web-config-reload-failed",
                    "file": str(self._file),
                    "error": redact(str(error)),
                },
            )
            return False
        self._failed = None
        self.settings, self.tls, self._digest = settings, tls, digest
        _log.info("web configuration reloaded", extra={"file": str(self._file)})
        return True

    async def watch(self, reloaded: Callable[[bool], None]) -> None:
        """Check the files until cancelled, and call `reloaded` with the result of each reload."""
        while True:
            await asyncio.sleep(CHECK_INTERVAL)
            # Not in the event loop: files may be on a slow network.
            result = await asyncio.to_thread(self.check)
            if result is not None:
                reloaded(result)


def _load(file: Path) -> tuple[WebConfig, ssl.SSLContext | None, bytes]:
    content = read(file)
    settings = load_web_config(file, content)
    # Before the certificates are loaded: a change in between is then found by the next check.
    digest = _digest(content, settings)
    tls = server_context(settings.tls_server_config) if settings.tls_server_config.enabled else None
    return settings, tls, digest


def _digest(content: bytes, settings: WebConfig) -> bytes:
    """Return a digest of the content of a web configuration file and of all files that its settings name."""
    section = settings.tls_server_config
    files = [
        read(path)
        for path in (section.cert_file, section.key_file, section.client_ca_file)
        if path is not None
    ]
    return hashlib.sha256(b"".join(len(part).to_bytes(8) + part for part in (content, *files))).digest()
