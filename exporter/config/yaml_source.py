"""Read YAML with all scalars as text, and record the line of each value and all errors.

The settings parse the scalars. Therefore YAML 1.1 cannot misread ids and names (`no`, `012`, `12:30:45`), and values are
parsed in one place.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import yaml

from exporter.config.yaml_problems import explain

_Loader: TypeAlias = "yaml.SafeLoader | yaml.CSafeLoader"
"""`CSafeLoader` is missing if PyYAML was built without libyaml."""
Path = tuple[str | int, ...]
Value = str | None | list["Value"] | dict[str, "Value"]

_MOST = 1_000_000
"""Maximum number of values in a configuration. A few lines of nested aliases can expand to any number."""

_DEEPEST = 100
"""Maximum nesting of a configuration. libyaml recurses without a bound."""
_SMALL = 256 << 10
"""Maximum characters of a text to parse again with the parser in Python, whose messages are better."""

# Scalars stay text, so their types need not be resolved. That saves a third of the time.
_MERGE = {"<": yaml.SafeLoader.yaml_implicit_resolvers["<"]}

_NULLS = {"", "~", "null", "Null", "NULL"}
_REFERENCE = re.compile(r"\$(?P<escaped>\$)?\{(?P<name>[^}]*)(?P<closed>\})?")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_KEY = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True, slots=True)
class Fault:
    """An error in a configuration: its line and key, and a text with the problem and the remedy."""

    line: int
    key: str
    text: str


@dataclass(slots=True)
class Document:
    """Content of a YAML text, with lines and errors."""

    root: Value = None
    lines: dict[Path, int] = field(default_factory=dict)
    """The line of each key or list item, counted from 1."""
    faults: list[Fault] = field(default_factory=list)
    variables: set[str] = field(default_factory=set)
    """Names of the environment variables that the text refers to."""

    def line(self, path: Path) -> int:
        """Return the line of the value at a path, or of the nearest enclosing value."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def key_text(path: Path) -> str:
    """Return a path for messages, such as `projects[0].auth.method`."""
    text = ""
    for part in path:
        word = f"[{part}]" if isinstance(part, int) else _word(part)
        text += f".{word}" if text and isinstance(part, str) else word
    return text or "(top)"


def _word(key: str) -> str:
    # Other keys may be values by mistake (`{token:abc}`), even secrets: show only the part before the colon.
    if not key or _KEY.fullmatch(key):
        return key or "''"
    name, colon, _ = key.partition(":")
    return f"{name}:…" if colon and _KEY.fullmatch(name) else "…"


def read_document(text: str, environment: Mapping[str, str] | None) -> Document:
    """Parse YAML, and record every error. If `environment` is given, replace each `${NAME}` with its variable."""
    document = Document()
    try:
        loader, node = _compose(text)
        if node is not None:
            document.root = _Walk(document, loader, environment).value(node, (), ())
    except yaml.MarkedYAMLError as error:
        line, problem = explain(error, text)
        document.faults.append(Fault(line, "(yaml)", problem))
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        document.faults.append(Fault(line, "(yaml)", "holds a control character (take it out)"))
    except RecursionError:
        document.faults.append(Fault(1, "(yaml)", "nested too deeply, or too large (write aliases out)"))
    return document


def _compose(text: str) -> tuple[_Loader, yaml.Node | None]:
    """Return the loader of a text, and its root node (None if empty).

    libyaml is 20 times as fast as the parser in Python, but it does not limit the nesting, and its messages are worse.
    """
    if hasattr(yaml, "CSafeLoader"):
        try:
            _check_depth(text)
            loader = yaml.CSafeLoader(text)
            loader.yaml_implicit_resolvers = _MERGE
            return _nodes(loader)
        except yaml.YAMLError:
            if len(text) > _SMALL:
                raise
    return _nodes(yaml.SafeLoader(text))


def _nodes(loader: _Loader) -> tuple[_Loader, yaml.Node | None]:
    try:
        return loader, loader.get_single_node()
    finally:
        loader.dispose()


def _check_depth(text: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise RecursionError


class _Walk:
    def __init__(self, document: Document, loader: _Loader, environment: Mapping[str, str] | None) -> None:
        self._document = document
        self._loader = loader
        self._environment = environment
        self._flat: set[yaml.Node] = set()
        self._count = 0

    def value(self, node: yaml.Node, path: Path, around: tuple[yaml.Node, ...]) -> Value:
        line = node.start_mark.line + 1
        self._document.lines.setdefault(path, line)
        self._count += 1
        if self._count > _MOST:
            raise RecursionError
        if node in around:
            self._fault(line, path, "contains itself through an alias (write it out)")
            return None
        if isinstance(node, yaml.ScalarNode):
            if not node.style and node.value in _NULLS:
                return None
            return self._expand(node.value, line, path)
        around = (*around, node)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*path, index), around) for index, item in enumerate(node.value)]
        assert isinstance(node, yaml.MappingNode)  # noqa: S101  # YAML has three kinds of node
        return self._mapping(node, path, around)

    def _mapping(self, node: yaml.MappingNode, path: Path, around: tuple[yaml.Node, ...]) -> dict[str, Value]:
        if node not in self._flat:
            self._flat.add(node)
            self._check_keys(node, path)
            self._loader.flatten_mapping(node)
        result: dict[str, Value] = {}
        for key, item in node.value:
            if isinstance(key, yaml.ScalarNode):
                inner = (*path, key.value)
                # Users look at the key; its value may start lines below.
                self._document.lines[inner] = key.start_mark.line + 1
                result[key.value] = self.value(item, inner, around)
        return result

    def _check_keys(self, node: yaml.MappingNode, path: Path) -> None:
        first: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._fault(
                    key.start_mark.line + 1,
                    path,
                    "a key must be plain text (quote a value that begins with { or [)",
                )
            elif key.tag == "tag:yaml.org,2002:merge":
                continue
            elif key.value in first:
                text = f"given twice, first in line {first[key.value]} (keep one)"
                self._fault(key.start_mark.line + 1, (*path, key.value), text)
            else:
                first[key.value] = key.start_mark.line + 1

    def _expand(self, text: str, line: int, path: Path) -> str:
        variables = self._environment
        if variables is None:
            return text

        def replace(match: re.Match[str]) -> str:
            name = match["name"]
            if match["escaped"]:
                return match.group()[1:]
            self._document.variables.add(name)
            if not match["closed"] or not _NAME.fullmatch(name):
                self._fault(line, path, "${ does not name an environment variable (write $${ for a plain ${)")
            elif name not in variables:
                text = f"the environment variable {name} is not set (set it, or write $${{{name}}} for plain text)"
                self._fault(line, path, text)
            else:
                return variables[name]
            return ""

        return _REFERENCE.sub(replace, text)

    def _fault(self, line: int, path: Path, text: str) -> None:
        self._document.faults.append(Fault(line, key_text(path), text))
