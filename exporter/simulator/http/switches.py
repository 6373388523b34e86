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

    Responses:

    - `outage`: the services behind the gateway are down. Requests get 502 or 503 without a body, or a connection
      reset, in turn.
    - `latency`: seconds by which every response is delayed; `latency_jitter`: maximum of a further, random delay.
    - `injected_fault`: the fault that replaces every good response, or None; `injected_fault_operation` limits it to
      one operation, by the vendor's name.
    - `skew`: seconds by which the gateway's clock is ahead. The `Date` header and the check of signed dates follow it;
      runs and the lifetimes of tokens and keys do not.

    The gateway:

    - `credentials_expired`: all credentials are refused as expired; those that do not expire, as deleted or disabled.
    - `throttle`: (limit, seconds): at most `limit` requests within any window of that many seconds, by the cloud's
      clock; refused requests count as well. `retry_after`: refusals, including injected ones, say how long to wait.

    The service:

    - `page_limit`: the largest page of a list; larger limits are reduced to it.
    - `bad_records`: raw bytes by pipeline; each record of the pipeline gets an extra field with this value, which need
      not be JSON.
    - `poison`: pipelines for which every request that names them fails.
    - `no_membership`: the user is not a member of the project. CodeArts lists nothing and otherwise reports that the
      project does not exist; Flow returns an error.
    - `empty_list_with_total`: the list of pipelines has its total but no rows.
    - `deleted`, `renamed`: deleted pipelines, and new names by pipeline id.
    - `stale`: seconds by which reported runs lag behind the `Date` header. It affects the batch operation of CodeArts,
      and every operation of Flow that does not name a run by its number.
    - `runs_order`: the order of the run list: "requested" by the client, "ascending" or "descending" by start, or
      "random", which is the same for all pages.
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
