"""The README is short, its links and commands work, and the Chinese README agrees with it."""

import re
from pathlib import Path

import pytest

from exporter import __version__
from exporter.settings.load import load
from tests.unit.test_docs import anchors

ROOT = Path(__file__).parents[2]
ENGLISH = (ROOT / "README.md").read_text(encoding="utf-8")
CHINESE = (ROOT / "README.zh-CN.md").read_text(encoding="utf-8")
OF_LANGUAGE = {"README.md", "README.zh-CN.md"}
"""Each README links to the other one."""


def blocks(text: str, language: str = r"\w+") -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def links(text: str) -> list[str]:
    return [target for target in re.findall(r"\]\(([^)]+)\)", text) if target not in OF_LANGUAGE]


def prose(text: str) -> str:
    return re.sub(r"^```\w+\n.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def code(text: str) -> list[str]:
    """Return the inline code, sorted: languages order the parts of a sentence differently."""
    return sorted(re.findall(r"`([^`\n]+)`", prose(text)))


def figures(text: str) -> list[str]:
    """Return the numbers outside of code and links, sorted; those up to ten may be words."""
    plain = re.sub(r"`[^`\n]+`|\]\([^)]*\)", "", prose(text))
    numbers = re.findall(r"\d[\d,.]*\d|\d+", plain)
    return sorted(number for number in numbers if len(number) > 1)


@pytest.mark.parametrize("text", [ENGLISH, CHINESE], ids=["English", "Chinese"])
def test_readme_has_at_most_150_lines(text):
    assert len(text.splitlines()) <= 150


@pytest.mark.parametrize("target", sorted({*links(ENGLISH), *OF_LANGUAGE}))
def test_link_leads_to_a_file(target):
    path, _, anchor = target.partition("#")
    assert (ROOT / path).exists()
    assert not anchor or anchor in anchors(ROOT / path)


def test_chinese_readme_has_the_same_commands_and_configurations():
    assert blocks(CHINESE) == blocks(ENGLISH)


def test_chinese_readme_has_the_same_links():
    assert links(CHINESE) == links(ENGLISH)


def test_chinese_readme_has_the_same_code():
    assert code(CHINESE) == code(ENGLISH)


def test_chinese_readme_has_the_same_figures():
    assert figures(CHINESE) == figures(ENGLISH)


def test_chinese_readme_has_the_same_sections():
    assert [len(level) for level in re.findall(r"^(#+) ", CHINESE, re.MULTILINE)] == [
        len(level) for level in re.findall(r"^(#+) ", ENGLISH, re.MULTILINE)
    ]


@pytest.mark.parametrize("config", blocks(ENGLISH, "yaml"), ids=["codearts", "flow"])
def test_smallest_configuration_is_valid(config, tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(config)
    [project] = load(file, {"HUAWEICLOUD_SDK_AK": "an-access-key"}).projects
    assert project.discovery is not None


def test_commands_name_targets_and_the_version_that_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z]+)", "\n".join(code(ENGLISH) + blocks(ENGLISH)))) <= targets
    assert set(re.findall(r"pipeline-exporter:(\d[\d.]*)", ENGLISH)) == {__version__}
    assert f"version {__version__} " in ENGLISH


def test_readme_says_how_many_alerts_there_are():
    alerts = (ROOT / "deploy" / "prometheus" / "rules" / "alerts.yml").read_text(encoding="utf-8")
    assert f"{alerts.count('- alert:')} tested alerts" in ENGLISH
