"""What of a simulated CodeArts can be switched while it runs, beside what every cloud has."""

from dataclasses import dataclass
from typing import Literal

from exporter.simulator.http.switches import Switches

DAY = 86_400


@dataclass(eq=False)
class CodeArtsSwitches(Switches):
    """The levers of CodeArts alone; each may be set at any time, all are off at first.

    The gateway:

    - `lock_after`: so many forged signatures of one access key, forged tokens, or wrong passwords of one
      user, in a row, and whoever it was is refused for `lock_seconds`, rightly or wrongly.

    Identity:

    - `iam_down`: IAM answers 503.
    - `token_lifetime`: seconds that a token is valid from its issue, read at the issue.
    - `key_lifetime`: seconds that a temporary key is valid; a change makes all keys new.
    - `agency`: whether the machine may have temporary keys at all.
    - `imds_off`: the status that a request for a metadata token is refused with, or None if they are given.
    - `imds_enforced`: whether keys are given only for a metadata token.

    The service:

    - `batch_limit`: the most ids in a batch, or None; a larger one is refused in the form `batch_refusal`: 400
      with an error of the service, 413 of the gateway, 200 with an error of the service.
    - `foreign_rows`: rows of another project in the list of pipelines, always; without it there are a few, and
      only if the body names no project.
    """

    lock_after: int | None = None
    lock_seconds: float = 900.0
    iam_down: bool = False
    token_lifetime: float = DAY
    key_lifetime: float = 3600.0
    agency: bool = True
    imds_off: Literal[404, 405, 503] | None = None
    imds_enforced: bool = False
    batch_limit: int | None = None
    batch_refusal: Literal[400, 413, 200] = 400
    foreign_rows: int = 0
