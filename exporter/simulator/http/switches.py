"""What of any simulated cloud can be switched while it runs.

One place tells every lever that a test or a demonstration may pull, and one more for each cloud those that it alone
has; the code that obeys them reads them anew at each request.
"""

from dataclasses import dataclass, field
from typing import Literal

from exporter.simulator.http.faults import InjectedFault


@dataclass(eq=False)
class Switches:
    """The levers of every cloud; each may be set at any time, all are off at first.

    Pipelines are named by the ids of the world, whatever a cloud calls them.

    Answers as such:

    - `latency`: seconds that every answer is held back.
    - `injected_fault`: what to answer in the place of every good answer, or None; `injected_fault_operation` limits it to one
      operation, by the vendor's name.
    - `skew`: seconds by which the gateway's clock is ahead: the `Date` of answers and the check of the dates
      of signatures follow it, the world and the lifetimes of tokens and keys do not.

    The gateway:

    - `throttle`: (limit, seconds): no more than `limit` requests within any window of that many seconds, by
      the cloud's clock; those turned away count as well. `retry_after` adds the header to the refusals.

    The service:

    - `page_limit`: the largest page of a list; larger limits come back cut to it.
    - `bad_records`: by pipeline, bytes that each of its records has as the value of one more field, JSON or not.
    - `poison`: pipelines that spoil whatever request names them.
    - `no_membership`: the user is no member of the project: CodeArts shows an empty list, and elsewhere no such
      project; Flow says so.
    - `empty_list_with_total`: the list of pipelines tells its total but no rows.
    - `deleted`, `renamed`: pipelines that are gone, and names by id that took the place of the first ones.
    - `stale`: seconds by which what is polled is behind: it tells the runs as they stood then, under the date of
      now. What is polled is the batch of CodeArts, and everything of Flow that finds runs without their number.
    - `runs_order`: the order in which the list of runs comes: "asked" for that of the request, or another
      whatever is asked; by start, or at "random", which is the same for every page.
    """

    latency: float = 0.0
    injected_fault: InjectedFault | None = None
    injected_fault_operation: str | None = None
    skew: float = 0.0
    throttle: tuple[int, float] | None = None
    retry_after: bool = False
    page_limit: int = 100
    bad_records: dict[str, bytes] = field(default_factory=dict)
    poison: set[str] = field(default_factory=set)
    no_membership: bool = False
    empty_list_with_total: bool = False
    deleted: set[str] = field(default_factory=set)
    renamed: dict[str, str] = field(default_factory=dict)
    stale: float = 0.0
    runs_order: Literal["asked", "ascending", "descending", "random"] = "asked"
