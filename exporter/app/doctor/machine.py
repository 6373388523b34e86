"""The checks of this machine: the folder of the state file, and the address to listen on."""

import os
from collections.abc import Iterator
from pathlib import Path

from exporter.app.doctor.checks import Check, Name, entry, fault, ok, warning
from exporter.settings.settings import Config
from exporter.web.server import ListenError, address_of, listen


def check_machine(config: Config, address: str) -> Iterator[Check]:
    """Yield the checks of this machine. The state file is not opened, since a running exporter may use it."""
    yield _state(config)
    yield _address(address)


def _state(config: Config) -> Check:
    if config.state.path is None:
        return ok(Name.STATE, "no state.path, counters begin at 0 after each start")
    file = Path(config.state.path)
    folder = file.parent
    if not folder.is_dir():
        problem = f"the folder {folder} does not exist"
    elif file.exists() and not file.is_file():
        problem = f"{file} is not a regular file"
    elif not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        problem = f"this user may not write to {folder}"
    elif file.exists() and not os.access(file, os.R_OK | os.W_OK):
        problem = f"this user may not write {file}"
    else:
        return ok(Name.STATE, f"{folder} is writable")
    return fault(
        Name.STATE,
        problem,
        f"mount the volume there, or give it to the user of the exporter; {entry('start-errors')}",
    )


def _address(address: str) -> Check:
    try:
        listener = listen(address)
    except ListenError as error:
        if "in use" in str(error):
            remedy = "nothing, if that is the exporter itself; otherwise choose another address"
            return warning(Name.ADDRESS, str(error), remedy)
        return fault(Name.ADDRESS, str(error), entry("start-errors"))
    with listener:
        return ok(Name.ADDRESS, f"{address_of(listener)} is free")
