"""Every kind of mistake in a configuration, and what its user is told.

A case is a pair of files in `config/bad`: NAME.yaml, and in NAME.txt the message, the file's name as FILE. Every
secret there is `opensesame`, of which no message may show anything. The folder of the files shows as FOLDER.
"""

import re
import traceback
from pathlib import Path

import pytest

from exporter.settings.load import ConfigError, load

CASES = Path(__file__).parents[2] / "config" / "bad"
ENVIRONMENT = {
    "CODEARTS_TOKEN": "opensesame",
    "PIPELINE": "d19799d619424b2bb2625ec2d93ea087",
    "EMPTY": "",
    "MANY_LINES": "open\nsesame",
}


def faults_of(file: Path) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load(file, ENVIRONMENT)
    return caught.value


@pytest.mark.parametrize("name", sorted({file.stem for file in CASES.iterdir()}))
def test_bad_configuration(name):
    """A bad file is refused with exactly the expected lines, and shows nothing of a secret."""
    file = CASES / f"{name}.yaml"
    error = faults_of(file)
    message = str(error).replace(str(file), "FILE").replace(str(CASES), "FOLDER")
    assert message.splitlines() == (CASES / f"{name}.txt").read_text().splitlines()
    assert not re.search("open|sesame", message)
    assert "sesame" not in "".join(traceback.format_exception(error))
    assert "sesame" not in repr(error.faults)


def test_lines_are_in_order():
    """Faults come in the order of the file's lines, whichever part of the reading found them."""
    lines = [fault.line for fault in faults_of(CASES / "very_many.yaml").faults]
    assert len(lines) > 55
    assert lines == sorted(lines)


def test_file_missing(tmp_path):
    """A file that is not there is told as such, not as a traceback."""
    file = tmp_path / "config.yaml"
    assert str(faults_of(file)) == f"{file}:1: (file): cannot be read: No such file or directory"


def test_file_is_a_folder(tmp_path):
    """Nor is a folder taken for a file."""
    assert str(faults_of(tmp_path)) == f"{tmp_path}:1: (file): cannot be read: Is a directory"


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_file_of_another_encoding(tmp_path, encoding):
    """Text that is not UTF-8 is told with what would be right, and not quoted."""
    file = tmp_path / "config.yaml"
    file.write_bytes("name: 'opensesamé'".encode(encoding))
    assert str(faults_of(file)) == f"{file}:1: (file): is not UTF-8 text (save it as UTF-8)"
