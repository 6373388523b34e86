"""Settings for the verification of a provider's certificate."""

import base64
import re
from pathlib import Path
from typing import Annotated

from pydantic import PlainSerializer, PlainValidator, ValidationInfo, WithJsonSchema

from exporter.config.files import NotUsableError, read_file
from exporter.config.section import FILE_FORM, Section, resolve_path

CA_LIMIT = 4 << 20
"""Maximum bytes of a file with certificate authorities."""

_CERTIFICATE = re.compile(b"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)


def _ca_file(value: object, info: ValidationInfo) -> Path:
    if not isinstance(value, str) or not value:
        raise ValueError("must be the path of a file")
    file = Path(resolve_path(value, info))
    try:
        text = read_file(file, CA_LIMIT)
    except NotUsableError as error:
        raise ValueError(f"{file} {error}") from None
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror} (mount it, or correct the path)") from None
    certificates = _CERTIFICATE.findall(text)
    if not certificates:
        raise ValueError(
            f"{file} holds no whole certificate in PEM form (-----BEGIN CERTIFICATE-----, lines of letters, and an END)"
        )
    if not all(_is_der(certificate) for certificate in certificates):
        raise ValueError(f"{file} holds a damaged certificate (copy the file again)")
    return file


def _is_der(encoded: bytes) -> bool:
    try:
        # A certificate is a DER sequence (X.690), which begins with this byte.
        return base64.b64decode(b"".join(encoded.split()), validate=True).startswith(b"\x30")
    except ValueError:
        return False


class Tls(Section):
    """How a provider's certificate is verified."""

    ca_file: (
        Annotated[
            Path,
            PlainValidator(_ca_file),
            PlainSerializer(str, return_type=str),
            WithJsonSchema(FILE_FORM),
        ]
        | None
    ) = None
    """File with the certificate authorities to trust instead of the default ones."""
    insecure_skip_verify: bool = False
    """Whether to accept any certificate. An attacker in the network can then read the credentials."""
