"""Every kind of mistake in a configuration, with its message.

A case is a pair of files in `config/bad`: NAME.yaml and NAME.txt with the message. The message has FILE for the path of
the file and FOLDER for its folder. Every secret is `opensesame`, and no message may show a part of it.
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
def test_bad_configuration_is_refused_with_its_message(name):
    file = CASES / f"{name}.yaml"
    error = faults_of(file)
    message = str(error).replace(str(file), "FILE").replace(str(CASES), "FOLDER")
    assert message.splitlines() == (CASES / f"{name}.txt").read_text().splitlines()
    assert not re.search("open|sesame", message)
    assert "sesame" not in "".join(traceback.format_exception(error))
    assert "sesame" not in repr(error.faults)


def test_faults_are_in_line_order():
    """Parser, validation and checks across projects find faults in different orders."""
    lines = [fault.line for fault in faults_of(CASES / "very_many.yaml").faults]
    assert len(lines) > 55
    assert lines == sorted(lines)


def test_missing_file_is_reported(tmp_path):
    file = tmp_path / "config.yaml"
    assert str(faults_of(file)) == f"{file}:1: (file): cannot be read: No such file or directory"


def test_folder_is_reported(tmp_path):
    assert str(faults_of(tmp_path)) == f"{tmp_path}:1: (file): cannot be read: Is a directory"


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_file_in_another_encoding_is_reported_without_quoting_it(tmp_path, encoding):
    file = tmp_path / "config.yaml"
    file.write_bytes("name: 'opensesamé'".encode(encoding))
    assert str(faults_of(file)) == f"{file}:1: (file): is not UTF-8 text (save it as UTF-8)"
