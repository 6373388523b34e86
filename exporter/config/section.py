"""Base class of configuration sections: unknown keys are errors, and each secret `x` can be given as `x_file`."""

from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    PlainSerializer,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)

from exporter.config.secret import FileSecret, Secret, SecretError
from exporter.core.redaction import MASK

FILE_FORM = {"type": "string", "minLength": 1, "pattern": r"^[^\x00-\x1f]*$"}
"""JSON Schema of a file path."""


class Context:
    """Context of a validation: the folder for relative paths, and the known keys for messages."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        """The folder that relative paths start from."""
        self.known: dict[int, tuple[str, ...]] = {}
        """The valid keys of each mapping, by the mapping's `id()`."""


def resolve_path(path: str, info: ValidationInfo) -> str:
    """Return the path of a file. A relative path starts from the folder of the configuration file."""
    if not path.isprintable():
        raise ValueError("must be the path of a file")
    directory = info.context.directory if isinstance(info.context, Context) else Path()
    return str(directory / path)


class _InvalidSecret:
    """Placeholder for an invalid secret, so that validation reports the error at the secret's own field."""

    def __init__(self, message: str) -> None:
        self.message = message


def _secret(value: object) -> Secret:
    if isinstance(value, Secret):
        return value
    if isinstance(value, _InvalidSecret):
        raise ValueError(value.message)  # noqa: TRY004  # pydantic collects ValueError
    if not isinstance(value, str):
        raise ValueError("must be text (quote it if it begins with [ or {)")  # noqa: TRY004  # as above
    value = value.strip()  # variables and YAML blocks often end with a line end, as files do
    if not value:
        raise ValueError("must not be empty")
    if not value.isprintable():
        raise ValueError("must be one line without control characters")
    return Secret(value)


SecretText = Annotated[
    Secret,
    PlainValidator(_secret),
    PlainSerializer(lambda _: MASK, return_type=str),
    WithJsonSchema({"type": "string", "minLength": 1}),
]
"""Type of a secret `x`, which a user can also give as `x_file`."""


class Section(BaseModel):
    """A mapping in the configuration. Unknown keys are errors. A known key without a value counts as left out."""

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
        secrets = secrets_of(cls)
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
                    prepared[name] = _InvalidSecret(f"is missing (give {name} or {name}_file)")
            elif name in prepared:
                prepared[name] = _InvalidSecret(f"given with {name}_file (give one of the two)")
            elif not isinstance(file, str) or not file or not file.isprintable():
                prepared[name] = _InvalidSecret("must be the path of a file")
            else:
                prepared[name] = _file_secret(directory / file)
        for name, field in cls.model_fields.items():
            section, tag = prepared.get(name), field.discriminator
            if isinstance(section, dict) and isinstance(tag, str) and not section.get(tag):
                # pydantic lists the possible tags for an empty tag, but not for a missing one.
                prepared[name] = {**section, tag: ""}
        return prepared


def _file_secret(path: Path) -> FileSecret | _InvalidSecret:
    secret = FileSecret(path)
    try:
        secret.check()
    except SecretError as error:
        return _InvalidSecret(str(error))
    return secret


@cache
def secrets_of(section: type[Section]) -> tuple[str, ...]:
    """Return the names of a section's fields that contain secrets."""
    return tuple(name for name, field in section.model_fields.items() if _holds_secret(field.annotation))


def _holds_secret(annotation: object) -> bool:
    arguments = getattr(annotation, "__args__", ())
    return annotation is Secret or any(_holds_secret(argument) for argument in arguments)
