"""Settings of a simulated Flow that a test can change while it runs, in addition to those of every cloud.

Most of them cover behavior that is undocumented or documented in two ways; a client must cope with all variants.
"""

from dataclasses import dataclass, field
from typing import Literal

from exporter.simulator.http.switches import Switches


@dataclass(eq=False)
class FlowSwitches(Switches):
    """The settings of Flow alone; tests may change them at any time. The defaults follow observed behavior.

    Identity:

    - `expires`: the Unix time at which the security token and the personal token expire, or None.
    - `unregistered`: the user of the access key is not a user of Yunxiao.
    - `forbidden`: pipelines that the user may not access.

    Errors; all but the first concern the signed generation only:

    - `statuses`: HTTP statuses by error code, instead of the usual ones; the vendor's documents disagree.
    - `error_form`: the form of the service's errors: "gateway" as errors of the gateway, "status" as an envelope with
      the same HTTP status, "envelope" as an envelope with 200.
    - `throttle_code`: the error code for too many requests.
    - `blank`: error code and message in the envelope of a success.

    Lists and runs:

    - `last_page`: the value of `nextToken` on the last page of the signed generation.
    - `page_headers`: whether the personal generation sends pagination headers.
    - `spelling`: whether the personal generation lists pipelines with the "observed" or the "documented" keys.
    - `run_status`: whether its run list contains the status, which is not documented.
    - `open_end`: form of the end in the run list for a run without one; "mixed" uses all three, depending on the run.
    - `never_run`: the response for the latest run of a pipeline without runs: 404, or 200 with null or without a body.
    - `create_lead`: seconds by which a run is created before its start in the list.
    - `end_lag`: seconds by which a run ends in the list after its last stage.
    """

    page_limit: int = 30
    expires: float | None = None
    unregistered: bool = False
    forbidden: set[str] = field(default_factory=set)
    error_form: Literal["gateway", "status", "envelope"] = "gateway"
    statuses: dict[str, int] = field(default_factory=dict)
    throttle_code: str = "Throttling.User"
    blank: str | None = '""'
    last_page: Literal["null", "empty", "absent"] = "null"
    page_headers: bool = True
    spelling: Literal["observed", "documented"] = "observed"
    run_status: bool = True
    open_end: Literal["mixed", "absent", "null", "zero"] = "mixed"
    never_run: Literal["404", "null", "empty"] = "404"
    create_lead: int = 0
    end_lag: int = 0
