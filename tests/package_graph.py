"""Draw the packages of `exporter/` and their imports.

`python -m tests.package_graph` writes the drawing into docs/architecture.md; tests/test_architecture.py keeps it true.
"""

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "exporter"
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- packages: begin -->\n", "<!-- packages: end -->"


def package_of(path: Path) -> str:
    """Return the package of a file: its first folder below `exporter/`, or its own name at the top."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@cache
def parsed(path: Path) -> ast.Module:
    """Return the syntax tree of a Python file."""
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imported_modules(path: Path) -> set[str]:
    """Return the names of the modules that a file imports."""
    names: set[str] = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            if node.module == "exporter":
                names |= {f"exporter.{alias.name}" for alias in node.names}
    return names


@cache
def imports() -> dict[str, frozenset[str]]:
    """Return which other packages each package imports."""
    found: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        package = package_of(path)
        found.setdefault(package, set()).update(
            name.split(".")[1] for name in imported_modules(path) if name.startswith("exporter.")
        )
    return {package: frozenset(others - {package, "__version__"}) for package, others in found.items()}


def layers() -> list[list[str]]:
    """Return the packages by layer: each imports only packages of the layers before it.

    Raises:
        ValueError: packages import each other in a cycle.

    """
    left = {
        package: set(others) for package, others in imports().items() if not package.startswith("__init__")
    }
    found: list[list[str]] = []
    while left:
        free = sorted(package for package, others in left.items() if not others & left.keys())
        if not free:
            raise ValueError(f"packages import each other: {sorted(left)}")
        found.append(free)
        for package in free:
            del left[package]
    return found


def _needed(package: str) -> list[str]:
    """Return the imports of a package that do not already follow from its other imports."""
    direct = imports()[package]
    return sorted(one for one in direct if not any(one in _reachable(other) for other in direct - {one}))


@cache
def _reachable(package: str) -> frozenset[str]:
    return frozenset().union(*({other} | _reachable(other) for other in imports()[package]))


def drawing() -> str:
    """Return the drawing: a Mermaid graph by layer, with arrows from packages to those that they import."""
    lines = ["```mermaid", "graph BT"]
    for layer in layers():
        for package in layer:
            lines.append(f"  {package}")
            lines += [f"  {package} --> {other}" for other in _needed(package)]
    return "\n".join([*lines, "```", ""])


def page_with_drawing(page: str) -> str:
    """Return the page with the drawing between its markers."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{drawing()}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page_with_drawing(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
