"""Arguments of the simulated clouds."""

import pytest

from exporter.app.demo import parse_delay
from exporter.cli import main


@pytest.mark.parametrize(("text", "seconds"), [("0", 0), ("0s", 0), ("100ms", 0.1), ("1m30s", 90)])
def test_delay_may_be_zero(text, seconds):
    assert parse_delay(text) == seconds


def test_times_without_a_trouble_are_a_usage_error(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["simulate", "--trouble.for", "1m"])
    assert ended.value.code == 2
    assert "error: --trouble.for is given without --trouble" in capsys.readouterr().err
