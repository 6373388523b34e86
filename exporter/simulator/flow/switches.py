"""What of a simulated Flow can be switched while it runs, beside what every cloud has.

Most of it is what is not known of the real one, or what is told of it in two ways: whoever asks must cope with either.
"""

from dataclasses import dataclass, field
from typing import Literal

from exporter.simulator.http.switches import Switches


@dataclass(eq=False)
class FlowSwitches(Switches):
    """The levers of Flow alone; each may be set at any time. At first Flow is as it has been seen.

    Identity:

    - `expires`: the moment, in Unix seconds, from which the security token and the personal token are no more valid.
    - `unregistered`: the user of the access key is none of Yunxiao.
    - `forbidden`: pipelines that the user has no right to.

    Errors, of which all but the first are of the signed generation alone:

    - `statuses`: HTTP statuses by error code, in the place of the usual ones: the vendor's own pages differ.
    - `error_form`: how the service's errors come: "gateway" as those of the gateway, "status" as an envelope with the
      same HTTP status, "envelope" as an envelope with 200.
    - `throttle_code`: the code that whoever asks too often is told.
    - `blank`: what code and message of an error are in an envelope that has none.

    What lists and runs look like:

    - `last_page`: what `nextToken` is on the last page of the signed generation.
    - `page_headers`: whether the personal generation tells the pages of its lists in headers.
    - `spelling`: whether the personal generation lists pipelines with the keys that were "observed", or with those that
      are "documented".
    - `run_status`: whether it tells the status of the runs that it lists, which is not documented.
    - `open_end`: how the list of runs tells an end that is none; "mixed" is each of the three, by the run.
    - `never_run`: how the latest run is told of a pipeline that has none: 404, or 200 with null or without a body.
    - `create_lead`: seconds by which a run is created before the list has it start.
    - `end_lag`: seconds by which the list has a run end after its last stage.
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
