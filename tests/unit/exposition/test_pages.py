"""Test that only changes are rendered, that a gzip page is one member, and that a failure affects one family."""

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
from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from exporter.core.model import Run, Stage, Status
from exporter.exposition import Body, Exposition, Format, OwnSeries, Variant
from exporter.exposition.blocks import Block
from exporter.exposition.gzip_member import Deflated, member
from exporter.exposition.render import pairs, renderers
from exporter.exposition.series_limit import allocate
from exporter.metrics.catalogue import Catalogue, catalogue
from exporter.metrics.family import PIPELINE_LABELS, PROJECT_LABELS, Family, MetricType, Sample
from exporter.settings.settings import Metrics
from exporter.tracking.run_counters import BucketBounds, Histogram
from exporter.tracking.views import ProjectView, View
from tests.drivers.views import (
    USER_LABELS,
    VARIANTS,
    Pause,
    counting,
    exposition,
    identity,
    nothing,
    pipeline,
    render,
    series,
    worlds,
)
from tests.marks import examples

TEXT, OPENMETRICS = (Variant(form, gzip=False) for form in Format)
ZIPPED = Variant(Format.TEXT, gzip=True)
OPENMETRICS_ZIPPED = Variant(Format.OPENMETRICS, gzip=True)


def whole(body: Body) -> bytes:
    """Return the page as a client reads it."""
    page = b"".join(body.chunks)
    assert len(page) == body.length
    return page


def view(name: str = "p", **shown: object) -> View:
    return View(pipeline=pipeline(name), **{"up": True, **shown})  # type: ignore[arg-type]


def stages(count: int, duration: float | None = None) -> Run:
    """Return a run with this number of stages."""
    found = (Stage(f"s{index}", index, Status.SUCCESS, duration=duration) for index in range(count))
    return Run(id="r", status=Status.RUNNING, stages=tuple(found))


# Unchanged views


def test_format_is_rendered_only_while_it_is_requested():
    family, rendered = counting()
    exposed = exposition(family)
    exposed.update([view()], ())
    assert rendered == []
    exposed.body(TEXT)
    exposed.update([view()], ())
    assert rendered == ["p", "p"]
    exposed.retain(())
    exposed.update([view()], ())
    assert rendered == ["p", "p"]


def test_unchanged_view_is_not_rendered_again():
    """A view is unchanged while it is the same object."""
    family, rendered = counting()
    exposed = exposition(family)
    one, two = view("p"), view("q")
    first = render(exposed, [one, two])
    assert rendered == ["p", "q"]
    assert render(exposed, [one, two]) == first
    exposed.body(ZIPPED)
    assert rendered == ["p", "q"]
    render(exposed, [msgspec.structs.replace(one, up=False), two])
    assert rendered == ["p", "q", "p"]


def test_removed_view_disappears_and_is_rendered_again_when_it_returns():
    family, rendered = counting()
    exposed = exposition(family)
    one, two = view("p"), view("q")
    render(exposed, [one, two])
    for body in render(exposed, [two]).values():
        assert b'pipeline_id="q"' in body
        assert b'pipeline_id="p"' not in body
    render(exposed, [one, two])
    assert rendered == ["p", "q", "p"]


def test_lines_of_a_family_follow_its_head_in_the_order_of_the_views():
    families = [msgspec.structs.replace(counting()[0], name=name) for name in ("b", "a")]
    lines = render(exposition(*families), [view(name) for name in "qp"])[Format.TEXT].decode().splitlines()
    assert [line.partition("{")[0] for line in lines] == [
        "# HELP b A.", "# TYPE b gauge", "b", "b", "# HELP a A.", "# TYPE a gauge", "a", "a",
    ]  # fmt: skip
    assert ['pipeline_id="q"' in line for line in lines[2:4]] == [True, False]


def two_families(max_series: int = 0, pause: Pause | None = None) -> Exposition:
    """Return an exposition of two families that show different values of a view, in groups of two."""
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
        group_size=2,
        pause=pause or Pause(),
    )


def test_change_in_one_family_of_one_group_replaces_one_block():
    exposed = two_families()
    views = [view(name) for name in "pqrs"]
    exposed.update(views, ())
    before = exposed.blocks(Format.TEXT)
    exposed.update([*views[:3], msgspec.structs.replace(views[3], status_change=1.0)], ())
    after = exposed.blocks(Format.TEXT)
    assert len(before) == 6  # a head and two groups for each family
    assert [one is other for one, other in zip(before, after, strict=True)] == [True] * 5 + [False]


def test_formats_share_blocks_without_exemplars():
    exposed = exposition(counting()[0])
    exposed.update([view()], ())
    text, openmetrics = map(exposed.blocks, Format)
    assert text[1] is openmetrics[1]


def test_same_views_give_the_same_gzip_bytes():
    """The header has no time."""
    first, second = (exposition(counting()[0]) for _ in range(2))
    for exposed in (first, second):
        exposed.update([view()], ())
    assert first.body(ZIPPED) == second.body(ZIPPED)


def test_page_without_views_or_families_is_valid():
    for families in (catalogue(Metrics()), Catalogue(pipelines=(), projects=())):
        page = render(Exposition(families, nothing, created_series=False), ())
        assert series(page[Format.TEXT]) == []
        assert page[Format.OPENMETRICS].endswith(b"# EOF\n")
        list(parse_text(page[Format.TEXT].decode()))
        list(parse_openmetrics(page[Format.OPENMETRICS].decode()))


def test_own_series_are_first_and_current_at_each_update():
    registry = CollectorRegistry()
    gauge = Gauge("mine", "Mine.", registry=registry)
    families = Catalogue(pipelines=(counting()[0],), projects=())
    exposed = Exposition(families, lambda: OwnSeries(registry).render, created_series=False)
    for value in (1, 2):
        gauge.set(value)
        for form, body in render(exposed, [view()]).items():
            assert f"\nmine {value}.0\n".encode() in body
            assert series(body)[0] == b"mine"
            assert body.count(b"# EOF") == (form is Format.OPENMETRICS)


def test_own_series_are_the_same_in_every_variant_of_a_page():
    """Otherwise a counter would go back for a client that changes its format."""
    registry = CollectorRegistry()
    counter = Counter("mine", "Mine.", registry=registry)
    exposed = Exposition(
        Catalogue(pipelines=(), projects=()), lambda: OwnSeries(registry).render, created_series=False
    )
    variants = (TEXT, ZIPPED, OPENMETRICS, OPENMETRICS_ZIPPED)
    for shown in (0, len(variants)):
        exposed.update((), ())
        for variant in variants:
            page = whole(exposed.body(variant))
            text = gzip.decompress(page) if variant.gzip else page
            assert f"\nmine_total {shown}.0\n".encode() in text
            counter.inc()


class ChangingPipelines(RuleBasedStateMachine):
    """Pipelines that are added, changed and removed in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.exposed = self.fresh()
        self.views: dict[str, View] = {}
        self.before: dict[Variant, list[Block]] = {}
        self.clean = False

    def fresh(self) -> Exposition:
        return Exposition(catalogue(Metrics(details="steps")), nothing, created_series=False, group_size=4)

    @rule(name=st.sampled_from("abcdefghijklmnop"), up=st.booleans(), count=st.integers(0, 3))
    def change(self, name: str, up: bool, count: int) -> None:
        """Add or change a pipeline."""
        self.views[name] = view(name, up=up, latest=stages(count) if count else None)
        self.clean = False

    @precondition(lambda self: self.views)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        """Remove some pipelines."""
        for name in data.draw(st.lists(st.sampled_from(sorted(self.views)), unique=True)):
            del self.views[name]
        self.clean = False

    @rule(variants=st.lists(st.sampled_from([TEXT, OPENMETRICS, ZIPPED]), unique=True))
    def retain(self, variants: list[Variant]) -> None:
        """Render only some variants from now on."""
        self.exposed.retain(variants)
        self.before = {}

    @invariant()
    def pages_equal_those_of_a_new_exposition(self) -> None:
        """Blocks also stay the same objects if nothing has changed."""
        fresh = self.fresh()
        for exposed in (fresh, self.exposed):
            exposed.update(list(self.views.values()), ())
        for variant in (TEXT, OPENMETRICS):
            page, expected = (whole(exposed.body(variant)) for exposed in (self.exposed, fresh))
            assert lines_by_family(page) == lines_by_family(expected)
            compressed = self.exposed.body(Variant(variant.form, gzip=True))
            assert one_member(compressed) == page
            blocks = self.exposed.blocks(variant.form)
            if self.clean and variant in self.before:
                assert all(one is other for one, other in zip(self.before[variant], blocks, strict=True))
            self.before[variant] = blocks
        self.clean = True
        assert self.exposed.failures.take() == {}
        # Free slots are reused, and small groups are merged.
        groups = [group.views for group in self.exposed._pipelines.store._groups]
        assert sum(groups) == len(self.views)
        assert len(groups) < 2 or sum(sorted(groups)[:2]) > 4


def lines_by_family(page: bytes) -> list[list[str]]:
    """Return the families in order, each as its sorted lines."""
    found: list[list[str]] = []
    for line in page.decode().splitlines():
        if line.startswith("# HELP"):
            found.append([])
        found[-1].append(line)
    return [sorted(one) for one in found]


ChangingPipelines.TestCase.settings = settings(examples(60), stateful_step_count=20)
TestChanging = ChangingPipelines.TestCase


class AbortedError(Exception):
    """Raised by a pause to abort rendering."""


def abort_after(calls: int) -> Callable[[], None]:
    """Return a pause that raises after this number of calls."""
    left = iter(range(calls))

    def pause() -> None:
        if next(left, None) is None:
            raise AbortedError

    return pause


some_views = st.dictionaries(st.sampled_from("pqrstu"), st.booleans())
MANY = dict.fromkeys(map(str, range(600)), True)


@settings(deadline=None)
@given(before=some_views, after=some_views, pauses=st.integers(0, 20), limit=st.sampled_from([0, 5]))
@example(before=dict.fromkeys("pq", True), after={"q": True, "p": False}, pauses=2, limit=0)
@example(before=dict.fromkeys("pqrs", True), after=dict.fromkeys("pqr", True), pauses=1, limit=0)
@example(before=MANY, after=dict.fromkeys(MANY, False), pauses=4, limit=0)
def test_aborted_update_leaves_no_outdated_lines(before, after, pauses, limit):
    """The next update shows the right page even if it has no new views."""
    known, views = ([view(name, up=up) for name, up in some.items()] for some in (before, after))
    pause = Pause()
    exposed, fresh = two_families(limit, pause), two_families(limit)
    render(exposed, known)
    with pause.replaced(abort_after(pauses)), contextlib.suppress(AbortedError):
        exposed.update(views, ())
    page, expected = (render(one, views)[Format.TEXT] for one in (exposed, fresh))
    assert lines_by_family(page) == lines_by_family(expected)
    assert exposed.withheld == fresh.withheld


# Pauses


def steps(pause: Pause, rendered: list[str], work: Callable[[], object]) -> list[int]:
    """Return the number of views that `work` renders between two pauses, for each pause."""
    found = [0]
    rendered.clear()

    def note() -> None:
        found.append(len(rendered))
        rendered.clear()

    with pause.replaced(note):
        work()
    return [*found, len(rendered)]


def test_at_most_one_block_is_made_between_two_pauses():
    family, rendered = counting()
    families = (family, msgspec.structs.replace(family, name="b"))
    pause = Pause()
    exposed = Exposition(
        Catalogue(pipelines=families, projects=()), nothing, created_series=False, group_size=2, pause=pause
    )
    exposed.update([view(name) for name in "pqrs"], ())
    assert max(steps(pause, rendered, lambda: exposed.body(TEXT))) == 2
    others = [view(name, up=False) for name in "pqrs"]
    assert max(steps(pause, rendered, lambda: exposed.update(others, ()))) == 2
    count = len(steps(pause, rendered, lambda: exposed.body(ZIPPED))) - 2
    assert count >= len(exposed.blocks(Format.TEXT)) == 6


def test_comparing_unchanged_views_has_pauses():
    family, rendered = counting()
    pause = Pause()
    exposed = exposition(family, pause=pause)
    views = [view(str(number)) for number in range(2000)]
    exposed.update(views, ())
    assert len(steps(pause, rendered, lambda: exposed.update(views, ()))) > 8


# gzip


def one_member(body: Body) -> bytes:
    """Return the page as read by a client that stops after the first gzip member."""
    member = zlib.decompressobj(wbits=31)
    page = member.decompress(whole(body))
    assert member.eof
    assert member.unused_data == b""
    assert gzip.decompress(whole(body)) == page
    return page


@given(st.lists(st.binary(max_size=200) | st.binary(max_size=3).map(lambda piece: piece * 5000), max_size=5))
def test_gzip_page_is_one_member(own):
    """Some clients silently read only the first of several."""
    families = tuple(msgspec.structs.replace(counting()[0], name=f"a{index}") for index in range(len(own)))
    exposed = Exposition(
        Catalogue(pipelines=families, projects=()),
        lambda: lambda _: own[0] if own else b"",
        created_series=False,
        group_size=1,
    )
    for names in ("p", "pq", "q", ""):
        exposed.update([view(name) for name in names], ())
        assert one_member(exposed.body(ZIPPED)) == whole(exposed.body(TEXT))


large = st.builds(
    lambda piece, length: (piece * length)[:length],
    st.binary(min_size=1, max_size=4),
    st.integers(65_537, 150_000),
)


@settings(deadline=None)
@given(st.lists(st.binary(max_size=100) | large, max_size=4))
@example([])
@example([b"a", b"b" * 70_000, b"", b"c"])
def test_blocks_of_any_length_make_one_member(blocks):
    assert one_member(Body.of(member(map(Deflated.of, blocks)))) == b"".join(blocks)


def compressed_again(variants: Sequence[Variant]) -> dict[str, bool]:
    """Retain only these variants, then all; return which blocks are compressed again."""
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
    exposed.retain(variants)
    return {name: block.deflated() is not before[name] for name, block in blocks.items()}


@pytest.mark.parametrize(
    ("variants", "recompressed"),
    [
        ([TEXT, OPENMETRICS], ["both", "text", "openmetrics"]),
        ([TEXT, OPENMETRICS, ZIPPED], ["openmetrics"]),
        ([TEXT, OPENMETRICS_ZIPPED], ["text"]),
        ([ZIPPED, OPENMETRICS_ZIPPED], []),
    ],
)
def test_compressed_blocks_are_kept_only_for_retained_gzip_variants(variants, recompressed):
    assert [name for name, again in compressed_again(variants).items() if again] == recompressed


def test_unchanged_block_is_not_compressed_again():
    exposed = Exposition(
        Catalogue(pipelines=(counting()[0],), projects=()), nothing, created_series=False, group_size=1
    )
    one, two = view("p"), view("q")
    exposed.update([one, two], ())
    before = [block.deflated() for block in exposed.blocks(Format.TEXT)]
    exposed.update([one, view("q", up=False), view("r")], ())
    after = [block.deflated() for block in exposed.blocks(Format.TEXT)]
    # The second view is a new object, but has the same lines.
    assert [known is block for known, block in zip(before, after, strict=False)] == [True] * 3
    assert len(after) == 4


@pytest.mark.parametrize("least", [0, 1, 4, 100])
@given(chunks=st.lists(st.binary(max_size=6), max_size=12))
def test_small_chunks_are_joined_and_large_ones_are_not_copied(chunks, least):
    """A copy of a large chunk would cost its size in memory."""
    body = Body.of(chunks, least)
    assert whole(body) == b"".join(chunks)
    large = [chunk for chunk in chunks if len(chunk) >= max(least, 2)]
    assert {id(chunk) for chunk in large} <= {id(chunk) for chunk in body.chunks}
    if least:
        assert len(body.chunks) <= 2 * body.length // least + 1


@pytest.mark.parametrize(("length", "plain", "compressed"), [(0, 1, 1), (100_000, 2, 1), (300_000, 2, 3)])
def test_small_blocks_are_joined_into_one_chunk(length, plain, compressed):
    """Handing many small chunks to the server costs more than copying them."""
    noise = random.Random(0).randbytes(length)
    families = tuple(msgspec.structs.replace(counting()[0], name=name) for name in "abc")
    exposed = Exposition(
        Catalogue(pipelines=families, projects=()), lambda: lambda _: noise, created_series=False
    )
    exposed.update([view()], ())
    assert len(exposed.body(TEXT).chunks) == plain
    assert len(exposed.body(ZIPPED).chunks) == compressed


# Failures


def broken(**attributes: object) -> Family[View]:
    """Return a family that cannot be rendered for the pipeline p."""
    (family, _) = counting(**attributes)  # type: ignore[arg-type]
    samples = family.samples
    return msgspec.structs.replace(
        family, name="broken", samples=lambda view: samples(view) if view.pipeline.id == "p" else ()
    )


@pytest.mark.parametrize("values", [(), ("x", "y")])
def test_wrong_number_of_labels_affects_only_that_view_and_is_reported(values):
    exposed = exposition(broken(labels=("branch",), sample_labels=values), counting()[0])
    page = render(exposed, [view("p"), view("q")])[Format.TEXT]
    assert [line.partition(b"{")[0] for line in series(page)] == [b"a", b"a"]
    failure = exposed.failures.take()["broken"]
    assert failure.times == 1
    assert failure.message.startswith("ValueError: (")
    assert exposed.failures.take() == {}


def test_failing_family_affects_only_the_view_that_it_fails_for():
    def samples(view: View) -> Sequence[Sample]:
        return (Sample((), 1 / (view.pipeline.id != "p")),)

    failing = Family[View](name="b", type=MetricType.GAUGE, help="B.", samples=samples)
    exposed = exposition(failing, counting()[0])
    assert len(series(render(exposed, [view("p"), view("q")])[Format.OPENMETRICS])) == 3
    assert exposed.failures.take()["b"].message == "ZeroDivisionError: division by zero"


def test_last_of_duplicate_series_is_shown_and_reported():
    """A duplicate series would fail the scrape."""
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


def test_last_of_two_views_of_a_pipeline_is_shown():
    page = render(exposition(counting()[0]), [view(up=True), view("q"), view(up=False)])[Format.TEXT]
    assert len(series(page)) == 2


# limits.max_series


COUNTS = st.lists(st.tuples(*[st.integers(0, 5)] * 4), max_size=8)


@given(COUNTS, st.integers(0, 60))
def test_limit_withholds_deepest_level_of_last_views_first(counts, limit):
    """It never withholds more than necessary."""
    levels, withheld = allocate(counts, limit)
    shown = sum(sum(count[:detail_level]) for count, detail_level in zip(counts, levels, strict=True))
    assert shown + withheld == sum(map(sum, counts))
    assert shown <= limit
    # Each view shows as much as the one before, or one level less; then no later view shows more.
    assert levels == sorted(levels, reverse=True)
    assert not levels or levels[0] - levels[-1] <= 1
    if withheld:
        cut = levels.index(levels[-1]) if levels[-1] < 4 else 0
        assert shown + counts[cut][levels[cut]] > limit


@given(COUNTS, st.integers(0, 60))
def test_higher_limit_never_withholds_more(counts, limit):
    less, more = allocate(counts, limit), allocate(counts, limit + 1)
    assert all(one <= other for one, other in zip(less[0], more[0], strict=True))
    assert less[1] >= more[1]


@examples(60)
@given(st.sampled_from(VARIANTS).flatmap(worlds), st.booleans())
def test_counted_series_equal_rendered_lines(world, created_series):
    metrics, pipelines, projects = world
    families = catalogue(metrics, USER_LABELS)

    def agree(family, labels, views):
        for by_form in renderers(family, labels, created_series=created_series).values():
            for renderer, (one, values) in itertools.product(by_form, views):
                lines, duplicates = renderer.lines(one, pairs(labels, values))
                assert (renderer.count_series(one), duplicates) == (lines.count(b"\n"), 0)

    for family in families.pipelines:
        agree(family, PIPELINE_LABELS, [(one, identity(one)) for one in pipelines])
    for shared_family in families.projects:
        agree(shared_family, PROJECT_LABELS, [(one, (one.project, one.provider)) for one in projects])


def names(page: bytes, pipeline_id: str) -> set[str]:
    """Return the metric names of a pipeline's series."""
    lines = (line.decode() for line in series(page))
    return {line.partition("{")[0] for line in lines if f'pipeline_id="{pipeline_id}"' in line}


def limited(limit: int) -> Exposition:
    return Exposition(catalogue(Metrics()), nothing, created_series=False, max_series=limit)


def within(limit: int, *families: Family[View], pause: Pause | None = None) -> Exposition:
    """Return an exposition of these pipeline families within a limit."""
    return Exposition(
        Catalogue(pipelines=families, projects=()),
        nothing,
        created_series=False,
        max_series=limit,
        pause=pause or Pause(),
    )


def test_unchanged_view_is_counted_once_with_a_pause_before_each():
    family, rendered = counting()
    pause = Pause()
    exposed = within(10, family, pause=pause)
    views = [view(name) for name in "pqr"]
    assert max(steps(pause, rendered, lambda: exposed.update(views, ()))) == 1
    rendered.clear()
    exposed.update(views[::-1], ())
    exposed.update([views[0], view("q", up=False), views[2]], ())
    assert rendered == ["q"]


def test_duplicate_series_counts_once():
    twice = counting()[0]
    once = twice.samples
    exposed = within(1, msgspec.structs.replace(twice, samples=lambda view: (*once(view), *once(view))))
    assert len(series(render(exposed, [view()])[Format.TEXT])) == 1
    assert exposed.withheld == {"payments": 0}


def test_family_that_cannot_be_counted_is_left_out_and_reported_once():
    def samples(_: View) -> Sequence[Sample]:
        raise LookupError("no such thing")

    exposed = within(1, msgspec.structs.replace(counting()[0], name="b", samples=samples), counting()[0])
    assert len(series(render(exposed, [view()])[Format.TEXT])) == 1
    assert exposed.withheld == {"payments": 0}
    assert exposed.failures.take()["b"].times == 1


def test_stages_are_withheld_before_pipelines_greatest_id_first():
    views = [view(name, latest=stages(2)) for name in "qp"]
    all_series = len(series(render(limited(0), views)[Format.TEXT]))
    exposed = limited(all_series)
    page = render(exposed, views)[Format.TEXT]
    assert len(series(page)) == all_series
    assert exposed.withheld == {"payments": 0}
    for limit, left in (
        (all_series - 1, ["p"]),
        (all_series - 2, ["p"]),
        (all_series - 3, []),
        (all_series - 4, []),
    ):
        exposed = limited(limit)
        page = render(exposed, views)[Format.TEXT]
        staged = [name for name in "pq" if "ci_pipeline_latest_run_stage_status" in names(page, name)]
        assert staged == left
        assert names(page, "q") >= {"ci_pipeline_up", "ci_pipeline_latest_run_status"}
        assert exposed.withheld["payments"] == all_series - len(series(page))
    for limit, left in ((all_series - 5, ["p"]), (1, [])):
        exposed = limited(limit)
        page = render(exposed, views)[Format.TEXT]
        assert [name for name in "pq" if names(page, name)] == left
        assert exposed.withheld["payments"] == all_series - len(series(page))
        list(parse_text(page.decode()))


def test_limit_applies_to_each_project_separately_and_withholds_the_same_series():
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
    """Return the histograms of a project with this number of stages."""
    buckets = BucketBounds.of(Metrics())
    durations = buckets.observe_stages(buckets.empty(0.0), stages(count, duration=1.0), count)
    return ProjectView(provider="codearts", project="payments", durations=durations)


def test_shared_stage_histograms_are_withheld_after_all_stages():
    view_, whole = view(latest=stages(2)), shared(1)
    all_series = len(series(render(limited(0), [view_], [whole])[Format.TEXT]))
    for less, left in ((0, (2, 13)), (1, (0, 13)), (2, (0, 13)), (3, (0, 0))):
        exposed = limited(all_series - less)
        lines = [line.partition(b"{")[0] for line in series(render(exposed, [view_], [whole])[Format.TEXT])]
        found = (
            sum(name == b"ci_pipeline_latest_run_stage_status" for name in lines),
            sum(name.startswith(b"ci_pipeline_stage_duration_seconds") for name in lines),
        )
        assert found == left
        assert exposed.withheld["payments"] == all_series - len(lines)
    alone = limited(13)
    assert len(series(render(alone, [], [whole])[Format.TEXT])) == 13
    assert alone.withheld == {"payments": 0}
