"""What of a simulated cloud can be switched while it runs.

One place tells every lever that a test or a demonstration may pull; the code that obeys them reads them anew
at each request.
"""

from dataclasses import dataclass, field
from typing import Literal

from exporter.simulator.mischief import Mischief

DAY = 86_400


@dataclass(eq=False)
class Switches:
    """The levers; each may be set at any time, all are off at first.

    Answers as such:

    - `latency`: seconds that every answer is held back.
    - `mischief`: what to answer in the place of every good answer, or None; `mischief_only` limits it to one
      operation, by the vendor's name.
    - `skew`: seconds by which the gateway's clock is ahead: the `Date` of answers and the check of the dates
      of signatures follow it, the world and the lifetimes of tokens and keys do not.

    The gateway:

    - `throttle`: (limit, seconds): no more than `limit` requests within any window of that many seconds, by
      the cloud's clock; those turned away count as well. `retry_after` adds the header to the refusals.
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

    - `page_limit`: the largest page of a list; larger limits come back cut to it.
    - `batch_limit`: the most ids in a batch, or None; a larger one is refused in the form `batch_refusal`: 400
      with an error of the service, 413 of the gateway, 200 with an error of the service.
    - `poison`: pipelines that spoil whatever request names them.
    - `foreign_rows`: rows of another project in the list of pipelines, always; without it there are a few, and
      only if the body names no project.
    - `no_membership`: the user sees nothing of the project: an empty list, and elsewhere no such project.
    - `empty_list_with_total`: the list of pipelines tells its total but no rows.
    - `deleted`, `renamed`: pipelines that are gone, and names by id that took the place of the first ones.
    - `stale`: seconds by which the batch is behind: it tells the runs as they stood then, under the date of now.
    - `runs_order`: the order in which the list of runs comes: "asked" for that of the request, or another
      whatever is asked; by start, or at "random", which is the same for every page.
    """

    latency: float = 0.0
    mischief: Mischief | None = None
    mischief_only: str | None = None
    skew: float = 0.0
    throttle: tuple[int, float] | None = None
    retry_after: bool = False
    lock_after: int | None = None
    lock_seconds: float = 900.0
    iam_down: bool = False
    token_lifetime: float = DAY
    key_lifetime: float = 3600.0
    agency: bool = True
    imds_off: Literal[404, 405, 503] | None = None
    imds_enforced: bool = False
    page_limit: int = 100
    batch_limit: int | None = None
    batch_refusal: Literal[400, 413, 200] = 400
    poison: set[str] = field(default_factory=set)
    foreign_rows: int = 0
    no_membership: bool = False
    empty_list_with_total: bool = False
    deleted: set[str] = field(default_factory=set)
    renamed: dict[str, str] = field(default_factory=dict)
    stale: float = 0.0
    runs_order: Literal["asked", "ascending", "descending", "random"] = "asked"
