"""Settings of a simulated CodeArts that a test can change while it runs, in addition to those of every cloud."""

from dataclasses import dataclass
from typing import Literal

from exporter.simulator.http.switches import Switches

DAY = 86_400


@dataclass(eq=False)
class CodeArtsSwitches(Switches):
    """The settings of CodeArts alone; tests may change them at any time, and all are off at first.

    The gateway:

    - `lock_after`: number of wrong signatures of one access key, wrong tokens, or wrong passwords of one user, in a
      row, after which the client is refused for `lock_seconds`, even with valid credentials.

    Identity:

    - `iam_down`: IAM answers 503.
    - `token_lifetime`: seconds that a token is valid, read when it is issued.
    - `key_lifetime`: seconds that a temporary key is valid; a change replaces all keys.
    - `agency`: whether the machine has temporary keys at all.
    - `imds_off`: the status with which requests for a metadata token are refused, or None if they are served.
    - `token_region`: whether tokens have a region; without one, `detail_url` is empty.
    - `imds_enforced`: whether keys require a metadata token.

    The service:

    - `batch_limit`: the most ids in a batch, or None. A larger batch is refused as `batch_refusal` says: 400 with an
      error of the service, 413 of the gateway, 200 with an error of the service.
    - `foreign_rows`: number of rows of another project in the list of pipelines. If 0, only a request whose body names
      no project gets a few.
    - `projects_listed_share`: share of the projects in the list of projects, oldest first; the others are missing in
      it, but still answer.
    """

    lock_after: int | None = None
    lock_seconds: float = 900.0
    iam_down: bool = False
    token_lifetime: float = DAY
    key_lifetime: float = 3600.0
    agency: bool = True
    imds_off: Literal[404, 405, 503] | None = None
    token_region: bool = True
    imds_enforced: bool = False
    batch_limit: int | None = None
    batch_refusal: Literal[400, 413, 200] = 400
    foreign_rows: int = 0
    projects_listed_share: float = 1.0
