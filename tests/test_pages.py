"""Pages cost what has changed: blocks stay the same objects, gzip stays one member, and a fault costs itself only."""

import gzip
import zlib
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from exporter.board import ProjectView, View, bounds
from exporter.config.schema import Metrics
from exporter.exposition import Body, Exposition, Format, Kind, own_series
from exporter.exposition.blocks import Block
from exporter.exposition.quota import allot
from exporter.metrics import Catalogue, Family, Sample, Type, catalogue
from exporter.model import Run, Stage, Status
from tests.views import counting, exposition, nothing, pipeline, render, series

TEXT, OPENMETRICS = (Kind(form, gzip=False) for form in Format)
ZIPPED = Kind(Format.TEXT, gzip=True)


def whole(body: Body) -> bytes:
    """What a client would read."""
    page = b"".join(body.chunks)
    assert len(page) == body.length
    return page


def view(name: str = "p", **shown: object) -> View:
    """A view of a pipeline."""
    return View(pipeline=pipeline(name), **{"up": True, **shown})  # type: ignore[arg-type]


def stages(count: int, duration: float | None = None) -> Run:
    """A run of so many stages."""
    found = (Stage(f"s{place}", place, Status.SUCCESS, duration=duration) for place in range(count))
    return Run(id="r", status=Status.RUNNING, stages=tuple(found))


# What has not changed


def test_nothing_is_rendered_for_nobody():
    """Until somebody asks; and no longer when nobody does."""
    family, asked = counting()
    exposed = exposition(family)
    exposed.update([view()], ())
    assert asked == []
    exposed.body(TEXT)
    exposed.update([view()], ())
    assert asked == ["p", "p"]
    exposed.keep(())
    exposed.update([view()], ())
    assert asked == ["p", "p"]


def test_a_view_that_has_not_changed_is_not_rendered_again():
    """Its bytes are kept for as long as the view is the same object, for both formats and their gzip."""
    family, asked = counting()
    exposed = exposition(family)
    one, two = view("p"), view("q")
    first = render(exposed, [one, two])
    assert asked == ["p", "q"]
    assert render(exposed, [one, two]) == first
    exposed.body(ZIPPED)
    assert asked == ["p", "q"]
    render(exposed, [msgspec.structs.replace(one, up=False), two])
    assert asked == ["p", "q", "p"]


def test_a_view_that_leaves_disappears():
    """And is rendered anew when it comes back."""
    family, asked = counting()
    exposed = exposition(family)
    one, two = view("p"), view("q")
    render(exposed, [one, two])
    for body in render(exposed, [two]).values():
        assert b'pipeline_id="q"' in body
        assert b'pipeline_id="p"' not in body
    render(exposed, [one, two])
    assert asked == ["p", "q", "p"]


def test_families_are_grouped_however_many_views_there_are():
    """All lines of a family stand together, below its head, in the order of the views."""
    families = [msgspec.structs.replace(counting()[0], name=name) for name in ("b", "a")]
    lines = render(exposition(*families), [view(name) for name in "qp"])[Format.TEXT].decode().splitlines()
    assert [line.partition("{")[0] for line in lines] == [
        "# HELP b A.", "# TYPE b gauge", "b", "b", "# HELP a A.", "# TYPE a gauge", "a", "a",
    ]  # fmt: skip
    assert ['pipeline_id="q"' in line for line in lines[2:4]] == [True, False]


def test_only_the_blocks_of_families_that_changed_are_others():
    """Of two families that show the same view, one alone shows the change; of two groups, one alone has it."""
    up, number = (
        Family[View](name=name, type=Type.GAUGE, help="A.", samples=samples)
        for name, samples in (
            ("up", lambda view: (Sample((), float(bool(view.up))),)),
            ("since", lambda view: (Sample((), view.status_change or 0.0),)),
        )
    )
    exposed = Exposition(
        Catalogue(pipelines=(up, number), projects=()), nothing, created_series=False, group=2
    )
    views = [view(name) for name in "pqrs"]
    exposed.update(views, ())
    before = exposed.blocks(Format.TEXT)
    exposed.update([*views[:3], msgspec.structs.replace(views[3], status_change=1.0)], ())
    after = exposed.blocks(Format.TEXT)
    assert len(before) == 6  # for each family a head and two groups
    assert [one is other for one, other in zip(before, after, strict=True)] == [True] * 5 + [False]


def test_both_formats_share_their_blocks():
    """All but the heads, and what has exemplars."""
    exposed = exposition(counting()[0])
    exposed.update([view()], ())
    text, openmetrics = map(exposed.blocks, Format)
    assert text[1] is openmetrics[1]


def test_the_same_page_has_the_same_bytes():
    """No time of rendering is in it."""
    first, second = (exposition(counting()[0]) for _ in range(2))
    for exposed in (first, second):
        exposed.update([view()], ())
    assert first.body(ZIPPED) == second.body(ZIPPED)


def test_a_page_of_nothing_is_valid():
    """Before the first poll has ended, and where nothing is configured to be shown."""
    for families in (catalogue(Metrics()), Catalogue(pipelines=(), projects=())):
        page = render(Exposition(families, nothing, created_series=False), ())
        assert series(page[Format.TEXT]) == []
        assert page[Format.OPENMETRICS].endswith(b"# EOF\n")
        list(parse_text(page[Format.TEXT].decode()))
        list(parse_openmetrics(page[Format.OPENMETRICS].decode()))


def test_the_exporters_own_series_come_with_each_page():
    """First, and in the format of the page; as they are at each update; the end is marked once."""
    registry = CollectorRegistry()
    gauge = Gauge("mine", "Mine.", registry=registry)
    families = Catalogue(pipelines=(counting()[0],), projects=())
    exposed = Exposition(families, lambda form: own_series(registry, form), created_series=False)
    for value in (1, 2):
        gauge.set(value)
        for form, body in render(exposed, [view()]).items():
            assert f"\nmine {value}.0\n".encode() in body
            assert series(body)[0] == b"mine"
            assert body.count(b"# EOF") == (form is Format.OPENMETRICS)


class Changing(RuleBasedStateMachine):
    """Pipelines that join, change and leave in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.exposed = self.fresh()
        self.views: dict[str, View] = {}
        self.before: dict[Kind, list[Block]] = {}
        self.clean = False

    def fresh(self) -> Exposition:
        return Exposition(catalogue(Metrics(details="steps")), nothing, created_series=False, group=4)

    @rule(name=st.sampled_from("abcdefghijklmnop"), up=st.booleans(), count=st.integers(0, 3))
    def change(self, name: str, up: bool, count: int) -> None:
        """One joins, or is another now."""
        self.views[name] = view(name, up=up, latest=stages(count) if count else None)
        self.clean = False

    @precondition(lambda self: self.views)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        """Some leave."""
        for name in data.draw(st.lists(st.sampled_from(sorted(self.views)), unique=True)):
            del self.views[name]
        self.clean = False

    @rule(kinds=st.lists(st.sampled_from([TEXT, OPENMETRICS, ZIPPED]), unique=True))
    def forget(self, kinds: list[Kind]) -> None:
        """Nobody asks for some kinds any more."""
        self.exposed.keep(kinds)
        self.before = {}

    @invariant()
    def pages_are_as_if_rendered_anew(self) -> None:
        """In each format and coding; and the same objects, if nothing has changed."""
        fresh = self.fresh()
        for exposed in (fresh, self.exposed):
            exposed.update(list(self.views.values()), ())
        for kind in (TEXT, OPENMETRICS):
            page, anew = (whole(exposed.body(kind)) for exposed in (self.exposed, fresh))
            assert lines_by_family(page) == lines_by_family(anew)
            zipped = self.exposed.body(Kind(kind.form, gzip=True))
            assert one_member(zipped) == page
            blocks = self.exposed.blocks(kind.form)
            if self.clean and kind in self.before:
                assert all(one is other for one, other in zip(self.before[kind], blocks, strict=True))
            self.before[kind] = blocks
        self.clean = True
        assert self.exposed.faults.take() == {}
        # Places of those that left are taken again, and groups that became small are dissolved.
        groups = [group.views for group in self.exposed._pipelines.shelf._groups]
        assert sum(groups) == len(self.views)
        assert len(groups) < 2 or sum(sorted(groups)[:2]) > 4


def lines_by_family(page: bytes) -> list[list[str]]:
    """Heads in their order, each with its lines in some order."""
    found: list[list[str]] = []
    for line in page.decode().splitlines():
        if line.startswith("# HELP"):
            found.append([])
        found[-1].append(line)
    return [sorted(one) for one in found]


Changing.TestCase.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
TestChanging = Changing.TestCase


# gzip


def one_member(body: Body) -> bytes:
    """What a client reads that knows of one member only."""
    member = zlib.decompressobj(wbits=31)
    page = member.decompress(whole(body))
    assert member.eof
    assert member.unused_data == b""
    assert gzip.decompress(whole(body)) == page
    return page


@given(st.lists(st.binary(max_size=200) | st.binary(max_size=3).map(lambda some: some * 5000), max_size=5))
def test_the_compressed_page_is_one_member(own):
    """Some clients silently read only the first of several. Its checksum is combined from those of the blocks."""
    families = tuple(msgspec.structs.replace(counting()[0], name=f"a{place}") for place in range(len(own)))
    exposed = Exposition(
        Catalogue(pipelines=families, projects=()),
        lambda _: own[0] if own else b"",
        created_series=False,
        group=1,
    )
    for names in ("p", "pq", "q", ""):
        exposed.update([view(name) for name in names], ())
        assert one_member(exposed.body(ZIPPED)) == whole(exposed.body(TEXT))


def test_a_block_that_has_not_changed_is_not_compressed_again():
    """It keeps what it was compressed to, until nobody asks for gzip."""
    exposed = Exposition(
        Catalogue(pipelines=(counting()[0],), projects=()), nothing, created_series=False, group=1
    )
    one, two = view("p"), view("q")
    exposed.update([one, two], ())
    before = [block.deflated() for block in exposed.blocks(Format.TEXT)]
    exposed.update([one, view("q", up=False), view("r")], ())
    after = [block.deflated() for block in exposed.blocks(Format.TEXT)]
    # The second view is another, but has the same lines.
    assert [known is block for known, block in zip(before, after, strict=False)] == [True] * 3
    assert len(after) == 4


@pytest.mark.parametrize("least", [0, 1, 4, 100])
@given(chunks=st.lists(st.binary(max_size=6), max_size=12))
def test_small_chunks_are_joined_and_large_ones_are_not_copied(chunks, least):
    """A copy of what is large would cost its size in memory."""
    body = Body.of(chunks, least)
    assert whole(body) == b"".join(chunks)
    large = [chunk for chunk in chunks if len(chunk) >= max(least, 2)]
    assert {id(chunk) for chunk in large} <= {id(chunk) for chunk in body.chunks}
    if least:
        assert len(body.chunks) <= 2 * body.length // least + 1


# Faults


def broken(**attributes: object) -> Family[View]:
    """A family that cannot be written for a pipeline named p."""
    (family, _) = counting(**attributes)  # type: ignore[arg-type]
    samples = family.samples
    return msgspec.structs.replace(
        family, name="broken", samples=lambda view: samples(view) if view.pipeline.id == "p" else ()
    )


@pytest.mark.parametrize("values", [(), ("x", "y")])
def test_a_sample_with_the_wrong_number_of_labels_costs_itself(values):
    """It would be dropped or mixed up in silence; it is told."""
    exposed = exposition(broken(labels=("branch",), sample_labels=values), counting()[0])
    page = render(exposed, [view("p"), view("q")])[Format.TEXT]
    assert [line.partition(b"{")[0] for line in series(page)] == [b"a", b"a"]
    fault = exposed.faults.take()["broken"]
    assert fault.times == 1
    assert fault.words.startswith("ValueError: (")
    assert exposed.faults.take() == {}


def test_a_family_that_fails_costs_itself():
    """And only for the pipeline that it fails for."""

    def samples(view: View) -> Sequence[Sample]:
        return (Sample((), 1 / (view.pipeline.id != "p")),)

    failing = Family[View](name="b", type=Type.GAUGE, help="B.", samples=samples)
    exposed = exposition(failing, counting()[0])
    assert len(series(render(exposed, [view("p"), view("q")])[Format.OPENMETRICS])) == 3
    assert exposed.faults.take()["b"].words == "ZeroDivisionError: division by zero"


def test_of_a_series_that_stands_twice_the_last_is_shown():
    """A second one would fail the scrape; it is told."""
    twice = Family[View](
        name="b",
        type=Type.GAUGE,
        help="B.",
        labels=("status",),
        samples=lambda _: (Sample(("x",), 1.0), Sample(("y",), 2.0), Sample(("x",), 3.0)),
    )
    exposed = exposition(twice)
    lines = render(exposed, [view()])[Format.TEXT].decode().splitlines()[2:]
    assert [line.rpartition(" ")[2] for line in lines] == ["3.0", "2.0"]
    assert exposed.faults.take()["b"].times == 1


def test_of_two_views_of_a_pipeline_the_last_is_shown():
    """There are none such; but if there were, they would have the same series."""
    page = render(exposition(counting()[0]), [view(up=True), view("q"), view(up=False)])[Format.TEXT]
    assert len(series(page)) == 2


# limits.max_series


SIZES = st.lists(st.tuples(*[st.integers(0, 5)] * 4), max_size=8)


@given(SIZES, st.integers(0, 60))
def test_no_more_is_shown_than_the_limit_allows(sizes, limit):
    """What goes first is what looks deepest, of those that stand last; and no more goes than must."""
    depths, withheld = allot(sizes, limit)
    shown = sum(sum(size[:depth]) for size, depth in zip(sizes, depths, strict=True))
    assert shown + withheld == sum(map(sum, sizes))
    assert shown <= limit
    # Each shows as much as the one before, or one depth less; then no other shows that depth.
    assert depths == sorted(depths, reverse=True)
    assert not depths or depths[0] - depths[-1] <= 1
    if withheld:
        cut = depths.index(depths[-1]) if depths[-1] < 4 else 0
        assert shown + sizes[cut][depths[cut]] > limit


@given(SIZES, st.integers(0, 60))
def test_a_higher_limit_shows_no_less(sizes, limit):
    """So that whoever raises it loses nothing."""
    less, more = allot(sizes, limit), allot(sizes, limit + 1)
    assert all(one <= other for one, other in zip(less[0], more[0], strict=True))
    assert less[1] >= more[1]


def names(page: bytes, pipeline_id: str) -> set[str]:
    """The names of a pipeline's series."""
    lines = (line.decode() for line in series(page))
    return {line.partition("{")[0] for line in lines if f'pipeline_id="{pipeline_id}"' in line}


def limited(limit: int) -> Exposition:
    return Exposition(catalogue(Metrics()), nothing, created_series=False, max_series=limit)


def test_stages_go_before_pipelines():
    """First those of the pipeline with the greatest id; whichever stands first. What is withheld is counted."""
    views = [view(name, latest=stages(2)) for name in "qp"]
    all_of_it = len(series(render(limited(0), views)[Format.TEXT]))
    exposed = limited(all_of_it)
    page = render(exposed, views)[Format.TEXT]
    assert len(series(page)) == all_of_it
    assert exposed.withheld == {"payments": 0}
    for limit, left in (
        (all_of_it - 1, ["p"]),
        (all_of_it - 2, ["p"]),
        (all_of_it - 3, []),
        (all_of_it - 4, []),
    ):
        exposed = limited(limit)
        page = render(exposed, views)[Format.TEXT]
        staged = [name for name in "pq" if "ci_pipeline_latest_run_stage_status" in names(page, name)]
        assert staged == left
        assert names(page, "q") >= {"ci_pipeline_up", "ci_pipeline_latest_run_status"}
        assert exposed.withheld["payments"] == all_of_it - len(series(page))
    for limit, left in ((all_of_it - 5, ["p"]), (1, [])):
        exposed = limited(limit)
        page = render(exposed, views)[Format.TEXT]
        assert [name for name in "pq" if names(page, name)] == left
        assert exposed.withheld["payments"] == all_of_it - len(series(page))
        list(parse_text(page.decode()))


def test_a_limit_is_for_each_project_alone():
    """One that has too much takes nothing from the others, and what it shows stays the same while nothing changes."""
    crowd = [view(str(number)) for number in range(10)]
    other = View(pipeline=msgspec.structs.replace(pipeline(), project="other"), up=True)
    exposed = limited(12)
    first = render(exposed, [*crowd, other])
    assert exposed.withheld == {"other": 0, "payments": len(crowd) * 2 - 12}
    assert names(first[Format.TEXT], "p")
    assert render(exposed, [*reversed(crowd), other]) == first
    more = render(exposed, [*crowd[2:], other])[Format.TEXT]
    assert len(series(more)) == 12 + 2


def shared(count: int) -> ProjectView:
    """The histograms that the pipelines of a project share, of so many stages."""
    buckets = bounds(Metrics())
    durations = buckets.observe_stages(buckets.empty(0.0), stages(count, duration=1.0), count)
    return ProjectView(provider="codearts", project="payments", durations=durations)


def test_what_a_project_shares_is_withheld_last_of_its_kind():
    """The histogram of stages goes with the stages, after those of pipelines; and has no need of any pipeline."""
    view_, whole = view(latest=stages(2)), shared(1)
    everything = len(series(render(limited(0), [view_], [whole])[Format.TEXT]))
    for less, left in ((0, (2, 8)), (1, (0, 8)), (2, (0, 8)), (3, (0, 0))):
        exposed = limited(everything - less)
        lines = [line.partition(b"{")[0] for line in series(render(exposed, [view_], [whole])[Format.TEXT])]
        found = (
            sum(name == b"ci_pipeline_latest_run_stage_status" for name in lines),
            sum(name.startswith(b"ci_pipeline_stage_duration_seconds") for name in lines),
        )
        assert found == left
        assert exposed.withheld["payments"] == everything - len(lines)
    alone = limited(8)
    assert len(series(render(alone, [], [whole])[Format.TEXT])) == 8
    assert alone.withheld == {"payments": 0}
