"""The URL of a proxy, as a setting. It is a secret, since it may contain a password."""

from typing import Annotated

from pydantic import AfterValidator

from exporter.config.secret import FileSecret, Secret, SecretError
from exporter.config.section import SecretText
from exporter.config.types import is_url
from exporter.core.redaction import register_proxy


def _problem(url: str) -> str:
    """Return what is wrong with a URL, without repeating the URL; empty if it is valid."""
    if not is_url(url):
        special = "in a password write @ : / ? # % as %40 %3A %2F %3F %23 %25"
        return f"must be a URL such as http://proxy.example.com:3128 ({special})"
    if "?" in url or "#" in url:
        return "must end with the host or the port (in a password write ? as %3F and # as %23)"
    return ""


class _ProxyFile(FileSecret):
    """A file with a proxy's URL. It is checked at each use, since the HTTP library would show an invalid URL in its error."""

    __slots__ = ()

    def reveal(self) -> str:
        """Return the URL.

        Raises:
            SecretError: the file cannot be read, or its content is not a valid URL.

        """
        url = super().reveal()
        if problem := _problem(url):
            raise SecretError(f"the secret file {self.path} {problem}")
        register_proxy(url)
        return url


def _proxy(value: Secret) -> Secret:
    if isinstance(value, FileSecret):
        return _ProxyFile(value.path)
    if problem := _problem(value.reveal()):
        raise ValueError(problem)
    register_proxy(value.reveal())
    return value


ProxyUrl = Annotated[SecretText, AfterValidator(_proxy)]
