"""Pages cost what has changed: blocks stay the same objects, gzip stays one member, and a failure costs itself only."""

import contextlib
import gzip
import itertools
import random
import zlib
from collections.abc import Callable, Sequence

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from exporter.core.model import Run, Stage, Status
from exporter.exposition import Body, Exposition, Format, Variant, own_series
from exporter.exposition.blocks import Block
from exporter.exposition.gzip_member import Deflated, member
from exporter.exposition.render import columns, pairs
from exporter.exposition.series_limit import allot
from exporter.metrics.catalogue import (
    PIPELINE_LABELS,
    PROJECT_LABELS,
    Catalogue,
    Family,
    MetricType,
    Sample,
    catalogue,
)
from exporter.settings.settings import Metrics
from exporter.tracking.run_counters import BucketBounds, Histogram
from exporter.tracking.views import ProjectView, View
from tests.drivers.views import (
    USER_LABELS,
    VARIANTS,
    counting,
    exposition,
    identity,
    nothing,
    pipeline,
    render,
    series,
    worlds,
)

TEXT, OPENMETRICS = (Variant(form, gzip=False) for form in Format)
ZIPPED = Variant(Format.TEXT, gzip=True)
OPENMETRICS_ZIPPED = Variant(Format.OPENMETRICS, gzip=True)


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


def up_and_since(max_series: int = 0) -> Exposition:
    """Two families that show different things of a view, in groups of two."""
    families = [
        Family[View](name=name, type=MetricType.GAUGE, help="A.", samples=samples)
        for name, samples in (
            ("up", lambda view: (Sample((), float(bool(view.up))),)),
            ("since", lambda view: (Sample((), view.status_change or 0.0),)),
        )
    ]
    return Exposition(
        Catalogue(pipelines=tuple(families), projects=()),
        nothing,
        created_series=False,
        max_series=max_series,
        group=2,
    )


def test_only_the_blocks_of_families_that_changed_are_others():
    """Of two families that show the same view, one alone shows the change; of two groups, one alone has it."""
    exposed = up_and_since()
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
        self.before: dict[Variant, list[Block]] = {}
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

    @rule(variants=st.lists(st.sampled_from([TEXT, OPENMETRICS, ZIPPED]), unique=True))
    def forget(self, variants: list[Variant]) -> None:
        """Nobody asks for some variants any more."""
        self.exposed.keep(variants)
        self.before = {}

    @invariant()
    def pages_are_as_if_rendered_anew(self) -> None:
        """In each format and coding; and the same objects, if nothing has changed."""
        fresh = self.fresh()
        for exposed in (fresh, self.exposed):
            exposed.update(list(self.views.values()), ())
        for variant in (TEXT, OPENMETRICS):
            page, anew = (whole(exposed.body(variant)) for exposed in (self.exposed, fresh))
            assert lines_by_family(page) == lines_by_family(anew)
            zipped = self.exposed.body(Variant(variant.form, gzip=True))
            assert one_member(zipped) == page
            blocks = self.exposed.blocks(variant.form)
            if self.clean and variant in self.before:
                assert all(one is other for one, other in zip(self.before[variant], blocks, strict=True))
            self.before[variant] = blocks
        self.clean = True
        assert self.exposed.failures.take() == {}
        # Places of those that left are taken again, and groups that became small are dissolved.
        groups = [group.views for group in self.exposed._pipelines.store._groups]
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


class BrokenOffError(Exception):
    """Whoever renders is to stop."""


def broken_off(after: int) -> Callable[[], None]:
    """What breaks off at the pause after so many."""
    left = iter(range(after))

    def pause() -> None:
        if next(left, None) is None:
            raise BrokenOffError

    return pause


some_views = st.dictionaries(st.sampled_from("pqrstu"), st.booleans())
MANY = dict.fromkeys(map(str, range(600)), True)


@settings(deadline=None)
@given(before=some_views, after=some_views, pauses=st.integers(0, 20), limit=st.sampled_from([0, 5]))
@example(before=dict.fromkeys("pq", True), after={"q": True, "p": False}, pauses=2, limit=0)
@example(before=dict.fromkeys("pqrs", True), after=dict.fromkeys("pqr", True), pauses=1, limit=0)
@example(before=MANY, after=dict.fromkeys(MANY, False), pauses=4, limit=0)
def test_an_update_that_is_broken_off_leaves_nothing_stale(before, after, pauses, limit):
    """Wherever that is: the next one shows what a page made from nothing does, though it brings nothing new."""
    known, views = ([view(name, up=up) for name, up in some.items()] for some in (before, after))
    exposed, fresh = up_and_since(limit), up_and_since(limit)
    render(exposed, known)
    go_on, exposed.pause = exposed.pause, broken_off(pauses)
    with contextlib.suppress(BrokenOffError):
        exposed.update(views, ())
    exposed.pause = go_on
    page, anew = (render(one, views)[Format.TEXT] for one in (exposed, fresh))
    assert lines_by_family(page) == lines_by_family(anew)
    assert exposed.withheld == fresh.withheld


# Pauses


def steps(exposed: Exposition, asked: list[str], work: Callable[[], object]) -> list[int]:
    """How many views were asked about between the pauses of some work."""
    found = [0]
    asked.clear()

    def pause() -> None:
        found.append(len(asked))
        asked.clear()

    go_on, exposed.pause = exposed.pause, pause
    work()
    exposed.pause = go_on
    return [*found, len(asked)]


def test_between_pauses_no_more_than_a_block_is_made():
    """Whether it is rendered for the first time, changed, or compressed: a page of any size takes short steps."""
    family, asked = counting()
    families = (family, msgspec.structs.replace(family, name="b"))
    exposed = Exposition(Catalogue(pipelines=families, projects=()), nothing, created_series=False, group=2)
    exposed.update([view(name) for name in "pqrs"], ())
    assert max(steps(exposed, asked, lambda: exposed.body(TEXT))) == 2
    others = [view(name, up=False) for name in "pqrs"]
    assert max(steps(exposed, asked, lambda: exposed.update(others, ()))) == 2
    pauses = len(steps(exposed, asked, lambda: exposed.body(ZIPPED))) - 2
    assert pauses >= len(exposed.blocks(Format.TEXT)) == 6


def test_views_that_have_not_changed_are_looked_through_with_pauses():
    """There may be very many of them."""
    family, asked = counting()
    exposed = exposition(family)
    views = [view(str(number)) for number in range(2000)]
    exposed.update(views, ())
    assert len(steps(exposed, asked, lambda: exposed.update(views, ()))) > 8


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


large = st.builds(
    lambda some, length: (some * length)[:length],
    st.binary(min_size=1, max_size=4),
    st.integers(65_537, 150_000),
)


@settings(deadline=None)
@given(st.lists(st.binary(max_size=100) | large, max_size=4))
@example([])
@example([b"a", b"b" * 70_000, b"", b"c"])
def test_blocks_of_any_length_make_one_member(blocks):
    """Each counts with all of its length, in the length and in the checksum that are combined from theirs."""
    assert one_member(Body.of(member(map(Deflated.of, blocks)))) == b"".join(blocks)


def zipped_anew(variants: Sequence[Variant]) -> dict[str, bool]:
    """Which blocks must be compressed anew, after nobody asks for other variants any more."""
    apart = Family[View](
        name="h",
        type=MetricType.HISTOGRAM,
        help="H.",
        bounds=(60.0,),
        samples=lambda _: (Sample((), Histogram((1, 0), 50.0)),),
    )
    exposed = exposition(counting()[0], apart)
    exposed.update([view()], ())
    found = [exposed.blocks(form) for form in Format]
    blocks = {"both": found[0][1], "text": found[0][3], "openmetrics": found[1][3]}
    before = {name: block.deflated() for name, block in blocks.items()}
    exposed.keep(variants)
    return {name: block.deflated() is not before[name] for name, block in blocks.items()}


@pytest.mark.parametrize(
    ("variants", "anew"),
    [
        ([TEXT, OPENMETRICS], ["both", "text", "openmetrics"]),
        ([TEXT, OPENMETRICS, ZIPPED], ["openmetrics"]),
        ([TEXT, OPENMETRICS_ZIPPED], ["text"]),
        ([ZIPPED, OPENMETRICS_ZIPPED], []),
    ],
)
def test_what_nobody_asks_for_as_gzip_is_not_kept_compressed(variants, anew):
    """Of each format by itself; what both have is kept for either."""
    assert [name for name, again in zipped_anew(variants).items() if again] == anew


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


@pytest.mark.parametrize(("length", "plain", "zipped"), [(0, 1, 1), (100_000, 2, 1), (300_000, 2, 3)])
def test_a_page_of_small_blocks_is_one_chunk(length, plain, zipped):
    """To hand each to the server would cost more than to copy them; what is large is handed over as it is."""
    noise = random.Random(0).randbytes(length)
    families = tuple(msgspec.structs.replace(counting()[0], name=name) for name in "abc")
    exposed = Exposition(Catalogue(pipelines=families, projects=()), lambda _: noise, created_series=False)
    exposed.update([view()], ())
    assert len(exposed.body(TEXT).chunks) == plain
    assert len(exposed.body(ZIPPED).chunks) == zipped


# Failures


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
    failure = exposed.failures.take()["broken"]
    assert failure.times == 1
    assert failure.words.startswith("ValueError: (")
    assert exposed.failures.take() == {}


def test_a_family_that_fails_costs_itself():
    """And only for the pipeline that it fails for."""

    def samples(view: View) -> Sequence[Sample]:
        return (Sample((), 1 / (view.pipeline.id != "p")),)

    failing = Family[View](name="b", type=MetricType.GAUGE, help="B.", samples=samples)
    exposed = exposition(failing, counting()[0])
    assert len(series(render(exposed, [view("p"), view("q")])[Format.OPENMETRICS])) == 3
    assert exposed.failures.take()["b"].words == "ZeroDivisionError: division by zero"


def test_of_a_series_that_stands_twice_the_last_is_shown():
    """A second one would fail the scrape; it is told."""
    twice = Family[View](
        name="b",
        type=MetricType.GAUGE,
        help="B.",
        labels=("status",),
        samples=lambda _: (Sample(("x",), 1.0), Sample(("y",), 2.0), Sample(("x",), 3.0)),
    )
    exposed = exposition(twice)
    lines = render(exposed, [view()])[Format.TEXT].decode().splitlines()[2:]
    assert [line.rpartition(" ")[2] for line in lines] == ["3.0", "2.0"]
    assert exposed.failures.take()["b"].times == 1


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
    shown = sum(sum(size[:detail_level]) for size, detail_level in zip(sizes, depths, strict=True))
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


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(VARIANTS).flatmap(worlds), st.booleans())
def test_as_many_series_are_counted_as_lines_are_written(world, created_series):
    """Whatever is in a view: the limit counts without writing."""
    metrics, pipelines, projects = world
    families = catalogue(metrics, USER_LABELS)

    def agree(family, labels, views):
        for some in columns(family, labels, created_series=created_series).values():
            for column, (one, values) in itertools.product(some, views):
                lines, twice = column.lines(one, pairs(labels, values))
                assert (column.series(one), twice) == (lines.count(b"\n"), 0)

    for family in families.pipelines:
        agree(family, PIPELINE_LABELS, [(one, identity(one)) for one in pipelines])
    for shared_family in families.projects:
        agree(shared_family, PROJECT_LABELS, [(one, (one.project, one.provider)) for one in projects])


def names(page: bytes, pipeline_id: str) -> set[str]:
    """The names of a pipeline's series."""
    lines = (line.decode() for line in series(page))
    return {line.partition("{")[0] for line in lines if f'pipeline_id="{pipeline_id}"' in line}


def limited(limit: int) -> Exposition:
    return Exposition(catalogue(Metrics()), nothing, created_series=False, max_series=limit)


def within(limit: int, *families: Family[View]) -> Exposition:
    """Families of pipelines, within a limit."""
    shown = Catalogue(pipelines=families, projects=())
    return Exposition(shown, nothing, created_series=False, max_series=limit)


def test_a_view_is_counted_once_for_as_long_as_it_is_the_same():
    """And not for nothing: between two that are counted, others may have their turn."""
    family, asked = counting()
    exposed = within(10, family)
    views = [view(name) for name in "pqr"]
    assert max(steps(exposed, asked, lambda: exposed.update(views, ()))) == 1
    asked.clear()
    exposed.update(views[::-1], ())
    exposed.update([views[0], view("q", up=False), views[2]], ())
    assert asked == ["q"]


def test_a_series_that_stands_twice_is_counted_once():
    """As often as it is shown."""
    twice = counting()[0]
    once = twice.samples
    exposed = within(1, msgspec.structs.replace(twice, samples=lambda view: (*once(view), *once(view))))
    assert len(series(render(exposed, [view()])[Format.TEXT])) == 1
    assert exposed.withheld == {"payments": 0}


def test_what_cannot_be_counted_costs_itself():
    """It is told when it is to be shown, and once only."""

    def samples(_: View) -> Sequence[Sample]:
        raise LookupError("no such thing")

    exposed = within(1, msgspec.structs.replace(counting()[0], name="b", samples=samples), counting()[0])
    assert len(series(render(exposed, [view()])[Format.TEXT])) == 1
    assert exposed.withheld == {"payments": 0}
    assert exposed.failures.take()["b"].times == 1


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
    buckets = BucketBounds.of(Metrics())
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
