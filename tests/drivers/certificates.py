"""Certificates for tests of TLS: an authority, a server, and a client."""

from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True)
class Certificates:
    """Files in PEM form, in one folder."""

    directory: Path
    ca: trustme.CA

    @classmethod
    def create(cls, directory: Path) -> "Certificates":
        """Create an authority with `ca.pem`, `server.pem`, `server.key`, `client.pem`, `client.key`."""
        found = cls(directory, trustme.CA())
        found.ca.cert_pem.write_to_path(directory / "ca.pem")
        found.issue("server", "localhost", "127.0.0.1")
        found.issue("client", "prometheus.example")
        return found

    def issue(self, name: str, *identities: str) -> None:
        """Create or replace `NAME.pem` and `NAME.key`."""
        certificate = self.ca.issue_cert(*identities)
        certificate.private_key_pem.write_to_path(self.directory / f"{name}.key")
        certificate.cert_chain_pems[0].write_to_path(self.directory / f"{name}.pem")

    def file(self, name: str) -> str:
        """Return the path of a file."""
        return str(self.directory / name)
