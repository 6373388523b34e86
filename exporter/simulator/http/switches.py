"""Settings of every simulated cloud that a test can change while the cloud runs.

The clouds read them at each request.
"""

from dataclasses import dataclass, field
from typing import Literal

from exporter.simulator.http.answers import InjectedFault


@dataclass(eq=False)
class Switches:
    """Settings that all clouds have; tests may change them at any time, and all are off at first.

    Pipelines are named by their ids in the world, even where a cloud uses other ids.

    Answers:

    - `outage`: nothing behind the gateway answers. Requests get 502 or 503 without a body, or a connection reset, in
      turn.
    - `latency`: seconds that every answer is delayed; `latency_jitter`: up to so many more, drawn for each answer.
    - `injected_fault`: the fault that replaces every good answer, or None; `injected_fault_operation` limits it to one
      operation, by the vendor's name.
    - `skew`: seconds by which the gateway's clock is ahead. The `Date` header and the check of signed dates follow it;
      runs and the lifetimes of tokens and keys do not.

    The gateway:

    - `credentials_expired`: all credentials are refused as expired; those that do not expire, as deleted or disabled.
    - `throttle`: (limit, seconds): at most `limit` requests within any window of that many seconds, by the cloud's
      clock; refused requests count as well. `retry_after` adds the header to the refusals, injected ones included.

    The service:

    - `page_limit`: the largest page of a list; larger limits are reduced to it.
    - `bad_records`: by pipeline, raw bytes that become the value of one more field in each of its records; they need
      not be JSON.
    - `poison`: pipelines that make every request fail that names them.
    - `no_membership`: the user is not a member of the project. CodeArts lists nothing and otherwise reports that the
      project does not exist; Flow returns an error.
    - `empty_list_with_total`: the list of pipelines has its total but no rows.
    - `deleted`, `renamed`: deleted pipelines, and new names by pipeline id.
    - `stale`: seconds by which polled data is behind, under a current `Date`. This affects the batch of CodeArts, and
      every operation of Flow that finds runs without their number.
    - `runs_order`: the order of the run list: "requested", or by start, or "random", which is the same for all pages.
    """

    outage: bool = False
    latency: float = 0.0
    latency_jitter: float = 0.0
    injected_fault: InjectedFault | None = None
    injected_fault_operation: str | None = None
    skew: float = 0.0
    credentials_expired: bool = False
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
    runs_order: Literal["requested", "ascending", "descending", "random"] = "requested"
