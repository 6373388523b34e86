"""What settings are made of: strict sections, durations, secrets and the fields that every project has."""

import base64
import itertools
import re
import warnings
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationInfo,
    model_validator,
)

from exporter.config.files import NotUsableError, read_file
from exporter.config.secret import FileSecret, Secret, SecretError
from exporter.core.duration import format_duration, parse_duration
from exporter.core.redaction import MASK, register_proxy

_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")
_CERTIFICATE = re.compile(b"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)
CA_LIMIT = 4 << 20
"""Bytes of a file with certificate authorities."""
_QUOTED = 100
_DATE = re.compile(r"\d{4}-\d\d-\d\d(?P<time>[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d))?", re.ASCII)


class Context:
    """What validation needs from outside, and what a report of faults needs from validation."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        """Where relative paths of files begin."""
        self.known: dict[int, tuple[str, ...]] = {}
        """The keys that a mapping may have, by the mapping's `id()`."""


class _Wrong:
    """Stands in for a secret that was not given, or given twice, so that its own field reports it."""

    def __init__(self, text: str) -> None:
        self.text = text


def _secret(value: object) -> Secret:
    if isinstance(value, Secret):
        return value
    if isinstance(value, _Wrong):
        raise ValueError(value.text)  # noqa: TRY004  # pydantic collects ValueError
    if not isinstance(value, str):
        raise ValueError("must be text (quote it if it begins with [ or {)")  # noqa: TRY004  # as above
    value = value.strip()  # a variable or a block of YAML ends with a line end as easily as a file does
    if not value:
        raise ValueError("must not be empty")
    if not value.isprintable():
        raise ValueError("must be one line without control characters")
    return Secret(value)


SecretText = Annotated[Secret, PlainValidator(_secret), PlainSerializer(lambda _: MASK, return_type=str)]
"""A secret `x`, which a user can also give as `x_file`."""


def _duration(value: object) -> float:
    if isinstance(value, str):
        return parse_duration(value)
    raise ValueError("must be a duration, such as 90s")


Duration = Annotated[float, PlainValidator(_duration), PlainSerializer(format_duration, return_type=str)]
"""Seconds, written as Prometheus writes durations."""


def _moment(value: object) -> datetime:
    text = value if isinstance(value, str) else str(value)
    found = _DATE.fullmatch(text)
    try:
        if found:
            moment = datetime.fromisoformat(text.upper())
            # Beyond what UTC can tell there is no timestamp either.
            return moment.astimezone(UTC) if found["time"] else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        pass
    raise ValueError(f"{text!r} is not a date (write 2027-01-31, or with time and zone 2027-01-31T12:00:00Z)")


Moment = Annotated[
    datetime,
    PlainValidator(_moment),
    PlainSerializer(lambda moment: moment.isoformat().replace("+00:00", "Z"), return_type=str),
]
"""A date (its first moment in UTC) or a date with time and zone, as RFC 3339 writes them."""


class Section(BaseModel):
    """A mapping of the configuration: unknown keys are faults, a key without a value counts as left out."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        arbitrary_types_allowed=True,
        validate_default=False,
        hide_input_in_errors=True,  # it may be a secret
    )

    @model_validator(mode="before")
    @classmethod
    def _prepare(cls, data: Any, info: ValidationInfo) -> Any:
        if not isinstance(data, dict):
            return data
        secrets = _secrets_of(cls)
        known = (*cls.model_fields, *(f"{name}_file" for name in secrets))
        directory = Path()
        if isinstance(info.context, Context):
            info.context.known[id(data)] = known
            directory = info.context.directory
        prepared = {key: value for key, value in data.items() if value is not None or key not in known}
        for name in secrets:
            file = prepared.pop(f"{name}_file", None)
            if file is None:
                if name not in prepared and cls.model_fields[name].is_required():
                    prepared[name] = _Wrong(f"is missing (give {name} or {name}_file)")
            elif name in prepared:
                prepared[name] = _Wrong(f"given with {name}_file (give one of the two)")
            elif not isinstance(file, str) or not file or not file.isprintable():
                prepared[name] = _Wrong("must be the path of a file")
            else:
                prepared[name] = _file_secret(directory / file)
        for name, field in cls.model_fields.items():
            section, tag = prepared.get(name), field.discriminator
            if isinstance(section, dict) and isinstance(tag, str) and not section.get(tag):
                # Of an empty tag pydantic tells which there are, of a missing one it does not.
                prepared[name] = {**section, tag: ""}
        return prepared


def _file_secret(path: Path) -> "FileSecret | _Wrong":
    secret = FileSecret(path)
    try:
        secret.check()
    except SecretError as error:
        return _Wrong(str(error))
    return secret


@cache
def _secrets_of(section: type[Section]) -> tuple[str, ...]:
    return tuple(name for name, field in section.model_fields.items() if _holds_secret(field.annotation))


def _holds_secret(annotation: object) -> bool:
    arguments = getattr(annotation, "__args__", ())
    return annotation is Secret or any(_holds_secret(argument) for argument in arguments)


def increasing(values: tuple[float, ...]) -> tuple[float, ...]:
    """Buckets of a histogram: at least one, each above the one before."""
    if not values:
        raise ValueError("must have at least one bound")
    for low, high in itertools.pairwise(values):
        if high <= low:
            text = f"{format_duration(high)} follows {format_duration(low)}"
            raise ValueError(f"bounds must increase ({text}: put them in order)")
    return values


def without_twins(values: Iterable[str]) -> tuple[str, ...]:
    """A list in which nothing may stand twice."""
    seen: dict[str, None] = {}
    for value in values:
        if value in seen:
            raise ValueError(f"{value!r} is given twice (keep one)")
        seen[value] = None
    return tuple(seen)


def _identifier(value: str) -> str:
    if not _ID.fullmatch(value):
        raise ValueError(f"{value!r} is not an id (letters, digits, - and _, up to 64 of them)")
    return value


def _is_url(value: str) -> bool:
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        return False
    # The library drops line ends and tabs; what is written is to be what is used.
    clean = value.isascii() and value.isprintable() and " " not in value
    return clean and port != 0 and parts.scheme in {"http", "https"} and bool(parts.hostname)


def check_url(value: str, example: str) -> None:
    """Refuse, with a remedy and without repeating it, what is no URL to send credentials to.

    Raises:
        ValueError: in a fault's words.

    """
    if not _is_url(value):
        raise ValueError(f"must be a URL such as {example}")
    parts = urlsplit(value)
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not hold a user or password (give them under auth)")


def _endpoint(value: str) -> str:
    check_url(value, "https://pipeline.example.com")
    if "?" in value or "#" in value:
        raise ValueError("must end with the host or a path (no ? or #)")
    return value.rstrip("/")


Endpoint = Annotated[str, AfterValidator(_endpoint)]
"""A URL below which a service listens, without a slash at its end."""

Identifier = Annotated[str, AfterValidator(_identifier)]
"""A vendor's id, safe to stand in a path."""


def _label_name(name: str) -> str:
    if not _LABEL_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a label name (letters, digits and _, not a digit first)")
    return name


def _label_value(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{value!r} is no text that UTF-8 can tell") from None
    return value


Labels = dict[Annotated[str, AfterValidator(_label_name)], Annotated[str, AfterValidator(_label_value)]]


class RateLimit(Section):
    """The request budget of a project in this process."""

    requests_per_second: float = Field(default=10, ge=0.001, le=100_000, allow_inf_nan=False)
    burst: int = Field(default=20, ge=1, le=100_000)


class PipelineEntry(Section):
    """A pipeline to watch."""

    id: Identifier
    name: str | None = Field(default=None, min_length=1)
    labels: Labels = {}


P = TypeVar("P", bound=PipelineEntry)


def _entry(value: object) -> object:
    if isinstance(value, str):
        return {"id": value}
    if not isinstance(value, dict | PipelineEntry):
        raise ValueError("must be an id, or a mapping with an id")  # noqa: TRY004  # pydantic collects ValueError
    return value


Listed = Annotated[P, BeforeValidator(_entry)]
"""A pipeline to watch, given as a mapping or by its id alone."""


def _pattern(value: object) -> re.Pattern[str]:
    if not isinstance(value, str):
        raise ValueError("must be a regular expression (quote it if it begins with [, { or *)")  # noqa: TRY004  # pydantic collects ValueError
    if not value:
        raise ValueError("must not be empty (.* matches every name)")
    try:
        with warnings.catch_warnings():
            # Of spellings that a later Python may read otherwise; nobody could do anything about them here.
            warnings.simplefilter("ignore")
            return re.compile(value)
    except (re.error, OverflowError, RecursionError) as error:
        words = "nested too deeply" if isinstance(error, RecursionError) else _one_line(str(error))
        raise ValueError(
            f"{_shortened(value)!r} is not a regular expression ({words}; every name is .*, one beginning with a is a.*)"
        ) from None


def _shortened(text: str) -> str:
    return text if len(text) <= _QUOTED else f"{text[:_QUOTED]}…"


def _one_line(words: str) -> str:
    return "".join(character if character.isprintable() else " " for character in words)


Pattern = Annotated[
    re.Pattern[str],
    PlainValidator(_pattern),
    PlainSerializer(lambda pattern: pattern.pattern, return_type=str),
]
"""A regular expression that is to match a whole name."""


class LabelsByName(Section):
    """Labels for the pipelines whose name matches."""

    match: Pattern
    labels: Labels


class Discover(Section):
    """Which of the provider's pipelines to watch beside those that are listed."""

    interval: Duration = 600.0
    include: Annotated[tuple[Pattern, ...], Field(min_length=1)] = (re.compile(".*"),)
    exclude: tuple[Pattern, ...] = ()
    labels: tuple[LabelsByName, ...] = ()

    def matches(self, name: str) -> bool:
        """Whether a pipeline of this name is to be watched."""
        included = any(pattern.fullmatch(name) for pattern in self.include)
        return included and not any(pattern.fullmatch(name) for pattern in self.exclude)

    def labels_of(self, name: str) -> dict[str, str]:
        """The labels of a pipeline of this name; of several for one label the last wins."""
        found: dict[str, str] = {}
        for rule in self.labels:
            if rule.match.fullmatch(name):
                found |= rule.labels
        return found


def placed(path: str, info: ValidationInfo) -> str:
    """The path of a file; a relative one begins at the folder of the configuration."""
    if not path.isprintable():
        raise ValueError("must be the path of a file")
    directory = info.context.directory if isinstance(info.context, Context) else Path()
    return str(directory / path)


def _ca_file(value: object, info: ValidationInfo) -> Path:
    if not isinstance(value, str) or not value or not value.isprintable():
        raise ValueError("must be the path of a file")
    directory = info.context.directory if isinstance(info.context, Context) else Path()
    file = directory / value
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
        raise ValueError(f"{file} holds a certificate that is damaged (copy the file anew)")
    return file


def _is_der(encoded: bytes) -> bool:
    try:
        # A certificate is a DER sequence.
        return base64.b64decode(b"".join(encoded.split()), validate=True).startswith(b"\x30")
    except ValueError:
        return False


class Tls(Section):
    """How the provider's certificate is verified."""

    ca_file: Annotated[Path, PlainValidator(_ca_file), PlainSerializer(str, return_type=str)] | None = None
    """Authorities to trust instead of the usual ones."""
    insecure_skip_verify: bool = False


def _template(value: str) -> str:
    filled = value.replace("{project_id}", "p").replace("{pipeline_id}", "i")
    if "{" in filled or "}" in filled:
        raise ValueError("may hold {project_id} and {pipeline_id} (and no other { or })")
    if not _is_url(filled):
        raise ValueError("must be a URL such as https://devcloud.example.com/{project_id}/{pipeline_id}")
    if "@" in urlsplit(filled).netloc:
        raise ValueError("must not hold a user or password (it is shown as a label)")
    return value


def _wrong_proxy(url: str) -> str:
    """What is wrong with a proxy's URL, without repeating it; empty if nothing is."""
    if not _is_url(url):
        special = "in a password write @ : / ? # % as %40 %3A %2F %3F %23 %25"
        return f"must be a URL such as http://proxy.example.com:3128 ({special})"
    if "?" in url or "#" in url:
        return "must end with the host or the port (in a password write ? as %3F and # as %23)"
    return ""


class _ProxyFile(FileSecret):
    """A file with a proxy's URL, checked at each use: the HTTP library would quote a wrong one."""

    __slots__ = ()

    def reveal(self) -> str:
        """The URL.

        Raises:
            SecretError: the file cannot be read, or holds no URL.

        """
        url = super().reveal()
        if wrong := _wrong_proxy(url):
            raise SecretError(f"the secret file {self.path} {wrong}")
        register_proxy(url)
        return url


def _proxy(value: Secret) -> Secret:
    # A proxy's URL may hold a password, which is why it is a secret.
    if isinstance(value, FileSecret):
        return _ProxyFile(value.path)
    if wrong := _wrong_proxy(value.reveal()):
        raise ValueError(wrong)
    register_proxy(value.reveal())
    return value


class CommonSection(Section):
    """The settings that every provider's project has."""

    name: str = Field(min_length=1, max_length=256)
    provider: str
    rate_limit: RateLimit = RateLimit()
    labels: Labels = {}
    """For each of its pipelines; a pipeline's own win."""
    url_template: Annotated[str, AfterValidator(_template)] | None = None
    """Where a pipeline's page is, with `{project_id}` and `{pipeline_id}`."""
    pipelines: tuple[Listed[PipelineEntry], ...] = ()
    discover: Discover | None = None
    tls: Tls = Tls()
    proxy: Annotated[SecretText, AfterValidator(_proxy)] | None = None


class ProjectSection(CommonSection):
    """A project of a provider: what others may know of it without knowing the provider."""

    scope_key: ClassVar[str]
    """The key of the vendor's id of the project."""

    @property
    @abstractmethod
    def scope(self) -> str:
        """What tells projects of a cloud apart: the vendor's id of the project, the same under any name."""

    @property
    @abstractmethod
    def base_url(self) -> str:
        """The URL below which the API's paths lie."""

    @property
    def urls(self) -> tuple[str, ...]:
        """Every URL to which credentials travel."""
        return (self.base_url,)

    @abstractmethod
    def warnings(self) -> Iterator[str]:
        """What is allowed, and probably not meant."""

    @property
    def discovery(self) -> Discover | None:
        """What to discover: as configured, and everything where no pipeline is listed."""
        return self.discover or (None if self.pipelines else Discover())

    def page_url(self, pipeline: str) -> str:
        """The address of a pipeline's page; empty if nobody told how it is made."""
        template = self.url_template or ""
        return template.replace("{project_id}", self.scope).replace("{pipeline_id}", pipeline)
