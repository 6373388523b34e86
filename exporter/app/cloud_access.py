"""Access of projects to their clouds, with what they share: credential states, TLS contexts, the limit on bodies."""

import hashlib
import os
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

import msgspec

from exporter.auth.protocol import Auth
from exporter.client.bodies import Bodies
from exporter.client.credential_state import CredentialState, Lockouts
from exporter.client.transport import SetupError, TransportOptions, tls_context
from exporter.config.files import NotUsableError, read_file
from exporter.config.tls import CA_LIMIT, Tls
from exporter.core.clock import Clock
from exporter.providers.protocol import AnyProvider
from exporter.providers.registry import AnyProject, connect

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class Link(msgspec.Struct, frozen=True):
    """What one project needs to reach its cloud."""

    provider: AnyProvider
    auth: Auth
    base_url: str
    transport: TransportOptions
    credential_key: tuple[str, str]
    """The same for all projects that share the credential."""
    authorities: bytes
    """Digest of the file with certificate authorities; empty without one."""


class CloudAccess:
    """Creates the links of projects, and holds the states of their credentials."""

    def __init__(self, clock: Clock, environment: Mapping[str, str] = os.environ) -> None:
        self._clock = clock
        self._environment = environment
        self._tls: dict[tuple[Tls, bytes], TransportOptions] = {}
        self._bodies = Bodies()
        self._lockouts: dict[str, Lockouts] = {}
        """Lockouts by endpoint. They survive a reload, since repeated rejections lock a key."""
        self._credentials: dict[tuple[str, str], tuple[AnyProject, CredentialState]] = {}
        """Credential states by `Link.credential_key`, each with the project whose settings describe the credential."""
        self._in_use: set[tuple[str, str]] = set()
        """Keys of the credentials that the projects of the new configuration use, while these projects are being built."""

    def link(self, project: AnyProject) -> Link:
        """Return a new link for a project. Nothing is sent.

        Raises:
            SetupError: a certificate authority cannot be loaded.

        """
        provider, auth, base_url = connect(project, self._environment)
        authorities = authorities_digest(project)
        known = self._tls.get((project.tls, authorities))
        if known is None:
            context = tls_context(project.tls.ca_file, verify=not project.tls.insecure_skip_verify)
            known = TransportOptions(tls=context, bodies=self._bodies)
            self._tls[project.tls, authorities] = known
        transport = msgspec.structs.replace(
            known,
            proxy=project.proxy,
            # A proxy does not reach services of this machine.
            bypass_proxy=_is_local(base_url),
        )
        return Link(provider, auth, base_url, transport, (base_url, auth.credential_id), authorities)

    def directory_transport(self, link: Link, base_url: str) -> TransportOptions:
        """Return how to reach the list of projects of a link's project, which is at another URL."""
        return msgspec.structs.replace(link.transport, bypass_proxy=_is_local(base_url))

    def credential(self, project: AnyProject, link: Link, interval: float) -> CredentialState:
        """Return the state of a project's credential, which other projects may share. It survives a reload.

        `interval` is the shortest pause after a rejection, in seconds.
        """
        key = link.credential_key
        known = self._credentials.get(key)
        # Of the projects that share a credential, the first one's settings apply.
        if known is None or (key not in self._in_use and known[0].auth != project.auth):
            lockouts = self._lockouts.setdefault(link.base_url, Lockouts())
            known = project, CredentialState(link.auth, self._clock, interval, lockouts)
            self._credentials[key] = known
        self._in_use.add(key)
        state = known[1]
        state.interval = interval
        return state

    def keep(self, link: Link) -> None:
        """Mark the credential of an unchanged project as in use."""
        self._in_use.add(link.credential_key)

    def forget_unused(self, links: Iterable[Link]) -> None:
        """Drop the credentials and TLS contexts that no project uses any more. `links` are those of all projects."""
        self._credentials = {key: known for key, known in self._credentials.items() if key in self._in_use}
        self._in_use = set()
        contexts = {link.transport.tls for link in links}
        self._tls = {key: known for key, known in self._tls.items() if known.tls in contexts}


def _is_local(url: str) -> bool:
    return urlsplit(url).hostname in LOOPBACK


def authorities_digest(project: AnyProject) -> bytes:
    """Return a digest of a project's file with certificate authorities; empty without one.

    Raises:
        SetupError: the file cannot be read.

    """
    file = project.tls.ca_file
    if file is None:
        return b""
    try:
        return hashlib.sha256(read_file(file, CA_LIMIT)).digest()
    except OSError as error:
        problem = error.strerror
    except NotUsableError as error:
        problem = str(error)
    raise SetupError(f"cannot load the certificate authorities of tls.ca_file {file}: {problem}")
