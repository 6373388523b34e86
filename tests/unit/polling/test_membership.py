"""Which pipelines a project has and what they are called: what listings change, and what they are not believed to."""

from typing import Any

import pytest

from exporter.core.model import LABEL_LENGTH, Pipeline
from exporter.core.shard import Shard
from exporter.polling.membership import ABSENCES, AGREEING, Membership, membership_hint
from exporter.polling.ownership import OwnershipRegistry
from tests.drivers.support import config, project

DISCOVERS: dict[str, Any] = {"pipelines": [], "discover": {}}
NO_MEMBER = membership_hint(config().projects[0])


def members(**changes: Any) -> Membership:
    """The pipelines of a single project."""
    return Membership(config(project(**changes)).projects[0], 0, OwnershipRegistry())


def limited(limit: int, **changes: Any) -> Membership:
    """The pipelines of a single project, of which so many are watched."""
    return Membership(config(project(**changes)).projects[0], 0, OwnershipRegistry(), limit=limit)


def two(
    first: dict[str, Any], second: dict[str, Any], shard: Shard | None = None
) -> tuple[Membership, Membership]:
    """The pipelines of two projects of one configuration."""
    registry = OwnershipRegistry()
    projects = config(project(name="payments", **first), project(name="mobile", **second)).projects
    one, other = (Membership(section, place, registry, shard) for place, section in enumerate(projects))
    return one, other


def shards(total: int, **changes: Any) -> list[Membership]:
    """What each shard has of a single project."""
    section = config(project(**changes)).projects[0]
    return [Membership(section, 0, OwnershipRegistry(), Shard(index, total)) for index in range(total)]


def names(membership: Membership) -> dict[str, str]:
    """What is watched: names by id."""
    return {one.id: one.name for one in membership.pipelines()}


def many(count: int, first: int = 0) -> dict[str, str]:
    """A listing of so many pipelines."""
    return {f"id{place}": f"name {place}" for place in range(first, first + count)}


def labels(membership: Membership, identity: str) -> dict[str, str]:
    """The labels of a pipeline."""
    return dict(next(one.labels for one in membership.pipelines() if one.id == identity))


# Listed in the configuration


def test_before_any_listing_the_listed_pipelines_are_watched():
    """Under their configured name, or their id."""
    membership = members(pipelines=["a", {"id": "b", "name": "checkout"}])
    assert names(membership) == {"a": "a", "b": "checkout"}
    assert membership.unnamed == {"a"}
    assert membership.wants_names


def test_all_that_a_pipeline_is_comes_from_its_project():
    """Provider and project as configured; no page and no labels unless somebody gave them."""
    assert members(pipelines=["a"]).pipelines() == (Pipeline("codearts", "payments", "a", "a"),)


def test_a_project_whose_pipelines_all_have_names_wants_none():
    """There is nothing to ask for."""
    membership = members(pipelines=[{"id": "b", "name": "checkout"}])
    assert not membership.wants_names
    assert membership.unnamed == frozenset()


def test_a_listing_names_the_listed_pipelines():
    """Those without a configured name; and it adds no others where nothing is to be discovered."""
    membership = members(pipelines=["a", {"id": "b", "name": "checkout"}])
    assert membership.listed({"a": "search", "b": "other", "c": "third"}) == ""
    assert names(membership) == {"a": "search", "b": "checkout"}
    assert membership.unnamed == frozenset()


def test_a_listed_pipeline_stays_whatever_is_listed():
    """The configuration says that it is watched."""
    membership = members(pipelines=["a"], discover={})
    membership.listed({"a": "search", **many(3)})
    for _ in range(5):
        membership.listed(many(3))
    assert names(membership)["a"] == "search"


def test_where_nothing_is_discovered_no_listing_is_doubted():
    """It names pipelines, and decides nothing else."""
    membership = members(pipelines=["a"])
    for found in (many(100), {}, many(1), {}):
        assert membership.listed(found) == ""


def test_listed_pipelines_come_first_and_in_their_order():
    """Then the discovered ones, as they were found."""
    membership = members(pipelines=["z", "a"], discover={})
    membership.listed({"m": "m", "a": "a", "b": "b"})
    membership.listed({"b": "b", "c": "c", "m": "m", "a": "a"})
    assert list(names(membership)) == ["z", "a", "m", "b", "c"]


# Discovered


def test_without_a_list_everything_is_discovered():
    """Whether or not discovery is written down."""
    changes: dict[str, Any]
    for changes in ({"pipelines": []}, DISCOVERS):
        membership = members(**changes)
        assert membership.pipelines() == ()
        assert membership.listed(many(3)) == ""
        assert names(membership) == many(3)


def test_names_are_included_and_excluded_as_a_whole():
    """By regular expressions; what is excluded is so though it be included."""
    membership = members(
        pipelines=[], discover={"include": ["pay-.*", "tax"], "exclude": [".*-test", "pay-x"]}
    )
    found = ["pay-in", "pay-in-test", "pay-x", "pay-xy", "tax", "taxes", "a pay-in"]
    membership.listed({f"id{place}": name for place, name in enumerate(found)})
    assert list(names(membership).values()) == ["pay-in", "pay-xy", "tax"]


def test_a_listed_pipeline_is_watched_though_its_name_is_excluded():
    """Discovery adds; it takes nothing away."""
    membership = members(pipelines=["a"], discover={"exclude": ["sandbox"]})
    membership.listed({"a": "sandbox", "b": "sandbox"})
    assert names(membership) == {"a": "sandbox"}


def test_a_discovered_pipeline_leaves_after_two_listings_without_it():
    """One can be wrong."""
    membership = members(**DISCOVERS)
    membership.listed(many(4))
    for _ in range(ABSENCES - 1):
        membership.listed(many(3))
        assert names(membership) == many(4)
    membership.listed(many(3))
    assert names(membership) == many(3)


def test_a_pipeline_that_is_back_in_between_stays():
    """The two listings without it have to follow each other."""
    membership = members(**DISCOVERS)
    for found in (many(4), many(3), many(4), many(3)):
        membership.listed(found)
    assert names(membership) == many(4)


def test_a_pipeline_that_left_may_come_back():
    """As a new one."""
    membership = members(**DISCOVERS)
    for found in (many(4), many(3), many(3), {**many(3), "id3": "another name"}):
        membership.listed(found)
    assert names(membership)["id3"] == "another name"


# Doubted


@pytest.mark.parametrize("found", [{}, many(1), many(4), many(4, first=90)])
def test_a_listing_that_suddenly_shrinks_is_not_believed(found):
    """Empty or less than half: more often a lost permission than a mass deletion."""
    membership = members(**DISCOVERS)
    membership.listed(many(9))
    for _ in range(AGREEING - 1):
        assert membership.listed(found) != ""
        assert names(membership) == many(9)


def test_a_doubt_tells_its_likely_cause():
    """Somebody has to act on it."""
    membership = members(**DISCOVERS)
    assert membership.listed({}) == NO_MEMBER
    membership = members(**DISCOVERS)
    membership.listed(many(9))
    assert membership.listed({}) == NO_MEMBER
    mark_unverified = membership.listed(many(4))
    assert "4 pipelines after 9" in mark_unverified
    assert "permission" in mark_unverified


def test_half_is_believed():
    """And so is a first listing, however short."""
    for before, after in ((8, 4), (9, 5), (1, 1), (0, 1)):
        membership = members(**DISCOVERS)
        if before:
            assert membership.listed(many(before)) == ""
        assert membership.listed(many(after)) == ""


def test_what_is_listed_counts_and_not_what_is_watched():
    """Filters of names say nothing of permissions."""
    membership = members(pipelines=[], discover={"include": ["name 8"]})
    membership.listed(many(9))
    assert membership.listed(many(5)) == ""
    membership.listed(many(5))
    assert names(membership) == {}


def test_the_third_listing_that_agrees_is_believed():
    """It is one without the others; they leave with the next."""
    membership = members(**DISCOVERS)
    membership.listed(many(9))
    for _ in range(AGREEING - 1):
        membership.listed(many(2))
    assert membership.listed(many(2)) == ""
    assert names(membership) == many(9)
    assert membership.listed(many(2)) == ""
    assert names(membership) == many(2)


def test_a_project_that_is_empty_is_so_for_good_once_believed():
    """It is not doubted again and again."""
    membership = members(**DISCOVERS)
    membership.listed(many(1))
    doubts = [membership.listed({}) for _ in range(10)]
    assert [bool(mark_unverified) for mark_unverified in doubts] == [True] * (AGREEING - 1) + [False] * (
        11 - AGREEING
    )
    assert names(membership) == {}


def test_a_project_that_is_empty_from_the_start_is_doubted_at_first():
    """Most likely somebody forgot a permission; after three it is believed, and pipelines may come."""
    membership = members(**DISCOVERS)
    assert [bool(membership.listed({})) for _ in range(5)] == [True, True, False, False, False]
    assert membership.listed(many(2)) == ""
    assert names(membership) == many(2)
    assert membership.listed({}) == NO_MEMBER


def test_doubts_count_in_a_row():
    """A whole listing begins them anew."""
    membership = members(**DISCOVERS)
    membership.listed(many(9))
    for _ in range(4):
        for _ in range(AGREEING - 1):
            assert membership.listed({}) != ""
        assert membership.listed(many(9)) == ""
    assert names(membership) == many(9)


def test_a_doubted_listing_is_no_absence():
    """What it lacks is not counted as gone; what it has that is new is not watched."""
    membership = members(**DISCOVERS)
    membership.listed(many(9))
    membership.listed(many(8))
    membership.listed({"new": "new"})
    membership.listed(many(9))
    membership.listed(many(8))
    assert names(membership) == many(9)


# Names


def test_a_pipeline_is_called_as_the_last_listing_calls_it():
    """Listed or discovered."""
    membership = members(pipelines=["a"], discover={})
    membership.listed({"a": "one", "b": "two"})
    membership.listed({"a": "uno", "b": "due"})
    assert names(membership) == {"a": "uno", "b": "due"}


def test_a_name_never_turns_back_into_an_id():
    """Neither a listing without the pipeline nor a row without its name takes it."""
    membership = members(pipelines=["a"], discover={})
    membership.listed({"a": "one", "b": "two"})
    for found in ({"a": "", "b": ""}, {"b": ""}, {}, {"a": "", "b": ""}):
        membership.listed(found)
        assert names(membership) == {"a": "one", "b": "two"}


def test_a_pipeline_without_a_name_is_watched_under_its_id():
    """Until it is told."""
    membership = members(**DISCOVERS)
    membership.listed({"a": ""})
    assert names(membership) == {"a": "a"}
    membership.listed({"a": "one"})
    assert names(membership) == {"a": "one"}


def test_a_pipeline_whose_name_is_not_told_stays_included_by_the_one_it_had():
    """A row without a name is no new name."""
    membership = members(pipelines=[], discover={"include": ["pay-.*"]})
    membership.listed({"a": "pay-in"})
    membership.listed({"a": ""})
    assert names(membership) == {"a": "pay-in"}


def test_a_pipeline_that_is_excluded_by_its_new_name_leaves_at_once():
    """It is not gone: it is not wanted. And it is back with its next name."""
    membership = members(pipelines=[], discover={"exclude": ["sandbox-.*"]})
    membership.listed({"a": "pay", "b": "tax"})
    membership.listed({"a": "sandbox-pay", "b": "tax"})
    assert names(membership) == {"b": "tax"}
    membership.listed({"a": "pay again", "b": "tax"})
    assert names(membership) == {"b": "tax", "a": "pay again"}


def test_a_configured_name_wins_over_the_providers():
    """Whatever is listed."""
    membership = members(pipelines=[{"id": "a", "name": "mine"}], discover={})
    membership.listed({"a": "theirs"})
    assert names(membership) == {"a": "mine"}


def test_names_are_cut():
    """Wherever they come from; whether they are included is judged by the whole."""
    long = "n" * 1000
    listed = {"id": "a", "name": long}
    membership = members(pipelines=[listed], discover={"include": ["n{1000}"], "exclude": ["n{256}"]})
    membership.listed({"b": long})
    assert names(membership) == dict.fromkeys("ab", "n" * LABEL_LENGTH)


# Labels and pages


def test_a_pipelines_own_labels_win_over_those_by_name_and_these_over_the_projects():
    """The closer, the stronger; each name for itself."""
    membership = members(
        labels={"team": "all", "tier": "3", "site": "x"},
        pipelines=[{"id": "a", "labels": {"team": "own"}}, "b"],
        discover={"labels": [{"match": "pay-.*", "labels": {"team": "pay", "tier": "1"}}]},
    )
    membership.listed({"a": "pay-a", "b": "pay-b", "c": "pay-c", "d": "tax"})
    assert labels(membership, "a") == {"team": "own", "tier": "1", "site": "x"}
    assert labels(membership, "b") == {"team": "pay", "tier": "1", "site": "x"}
    assert labels(membership, "c") == {"team": "pay", "tier": "1", "site": "x"}
    assert labels(membership, "d") == {"team": "all", "tier": "3", "site": "x"}


def test_labels_by_name_match_the_whole_name_and_the_last_wins():
    """The configured name, where there is one; they follow a renaming."""
    membership = members(
        pipelines=[{"id": "a", "name": "pay"}],
        discover={
            "labels": [
                {"match": ".*", "labels": {"team": "others"}},
                {"match": "pay", "labels": {"team": "pay"}},
            ]
        },
    )
    membership.listed({"a": "tax", "b": "pay"})
    assert labels(membership, "a") == {"team": "pay"}
    assert labels(membership, "b") == {"team": "pay"}
    membership.listed({"a": "tax", "b": "payments"})
    assert labels(membership, "b") == {"team": "others"}


def test_a_page_is_made_of_the_template():
    """With the ids of project and pipeline, of each as often as it stands there."""
    membership = members(
        pipelines=["a"],
        project_id="P",
        url_template="https://x/{project_id}/{pipeline_id}?again={pipeline_id}",
        discover={},
    )
    membership.listed({"b": "two"})
    assert [one.url for one in membership.pipelines()] == ["https://x/P/a?again=a", "https://x/P/b?again=b"]


def test_a_page_is_cut():
    """A label that is too long fails a scrape."""
    (one,) = members(pipelines=["a"], url_template=f"https://x/{'y' * 999}").pipelines()
    assert len(one.url) == LABEL_LENGTH


# Claims


@pytest.mark.parametrize("later_is_first", [False, True])
def test_a_pipeline_that_two_projects_discover_belongs_to_the_earlier(later_is_first):
    """Whichever asked first."""
    one, other = two(DISCOVERS, DISCOVERS)
    order = [other, one, other] if later_is_first else [one, other]
    for membership in order:
        membership.listed(many(2))
    assert names(one) == many(2)
    assert names(other) == {}


@pytest.mark.parametrize("place", [0, 1])
def test_a_pipeline_that_a_project_lists_is_not_discovered_by_another(place):
    """Whoever wrote it down meant that project, whichever place it has."""
    sections = [DISCOVERS, DISCOVERS]
    sections[place] = {"pipelines": ["id0"]}
    both = two(sections[0], sections[1])
    for membership in both:
        membership.listed(many(2))
    assert names(both[place]) == {"id0": "name 0"}
    assert names(both[1 - place]) == {"id1": "name 1"}


def test_a_pipeline_that_left_the_earlier_project_may_be_found_by_the_other():
    """Gone from its listing, or excluded by its new name."""
    one, other = two({"pipelines": [], "discover": {"exclude": ["mobile-.*"]}}, DISCOVERS)
    for membership in (one, other):
        membership.listed(many(4))
    for _ in range(ABSENCES):
        one.listed({**many(2), "id3": "mobile-app"})
    other.listed({**many(3), "id3": "mobile-app"})
    assert names(one) == many(2)
    assert names(other) == {"id2": "name 2", "id3": "mobile-app"}


def test_what_the_earlier_project_finds_later_leaves_the_other_at_its_next_listing():
    """It stays with the earlier one from then on."""
    one, other = two(DISCOVERS, DISCOVERS)
    other.listed(many(2))
    one.listed(many(1))
    other.listed(many(2))
    assert names(other) == {"id1": "name 1"}
    for _ in range(ABSENCES):
        other.listed(many(1, first=1))
    one.listed(many(2))
    assert names(one) == many(2)


def test_the_same_id_elsewhere_is_another_pipeline():
    """Ids are a cloud's own, and clouds are told apart by their address."""
    one, other = two(DISCOVERS, {**DISCOVERS, "endpoint": "http://127.0.0.1:2"})
    for membership in (one, other):
        membership.listed(many(2))
    assert names(one) == names(other) == many(2)


# Shards


def parts(memberships: list[Membership]) -> dict[str, str]:
    """What is watched by all together: names by id; nothing is watched twice."""
    own = [names(membership) for membership in memberships]
    together = {identity: name for part in own for identity, name in part.items()}
    assert sum(map(len, own)) == len(together)
    return together


def test_shards_share_what_is_listed_and_what_is_discovered():
    """Each pipeline is watched by one, and none has them all."""
    memberships = shards(3, pipelines=[f"id{place}" for place in range(10)], discover={})
    assert set(parts(memberships)) == set(many(10))
    for membership in memberships:
        assert membership.listed(many(40)) == ""
    assert parts(memberships) == many(40)
    assert all(0 < len(names(membership)) < 40 for membership in memberships)


def test_a_shard_wants_the_names_of_its_own_pipelines_only():
    """Who has no nameless pipeline needs no listing, and is told nothing by it."""
    memberships = shards(3, pipelines=["a"])
    (owner,) = (membership for membership in memberships if membership.pipelines())
    for membership in memberships:
        assert membership.wants_names is (membership is owner)
        assert membership.unnamed == ({"a"} if membership is owner else frozenset())
        assert membership.listed({"a": "search"}) == ""
        assert names(membership) == ({"a": "search"} if membership is owner else {})


def test_every_shard_judges_the_whole_listing():
    """Also the one whose part of it has not shrunk, or whose part was all that went."""
    for membership in shards(4, **DISCOVERS):
        own = set(names_after(membership, many(40)))
        rest = {identity: name for identity, name in many(40).items() if identity not in own}
        assert membership.listed(rest) == ""
        assert membership.listed(many(40)) == ""
        assert "after 40" in membership.listed({identity: many(40)[identity] for identity in own})
        assert set(names(membership)) == own


def names_after(membership: Membership, found: dict[str, str]) -> dict[str, str]:
    """What is watched after a listing that is believed."""
    assert membership.listed(found) == ""
    return names(membership)


def test_pipelines_leave_and_are_renamed_in_every_shard():
    """As they do without shards."""
    memberships = shards(3, pipelines=[], discover={"exclude": ["sandbox"]})
    for membership in memberships:
        for found in (many(12), *[{**many(10), "id0": "sandbox", "id1": "another"}] * ABSENCES):
            membership.listed(found)
    expected = {**many(10), "id1": "another"}
    del expected["id0"]
    assert parts(memberships) == expected


def test_a_pipeline_of_two_projects_has_one_owner_in_all_shards():
    """Whose it is among the projects is decided first, alike everywhere; then the shard."""
    first: list[str] = []
    second: list[str] = []
    for index in range(3):
        # The second is another project of the vendor, so that it is shared out in another way.
        one, other = two({"pipelines": ["id0"]}, {**DISCOVERS, "project_id": "0" * 32}, Shard(index, 3))
        for membership in (other, one):
            membership.listed(many(20))
        first += names(one)
        second += names(other)
    assert first == ["id0"]
    assert sorted(second) == sorted(many(20).keys() - {"id0"})


def test_a_listing_that_shrank_across_a_restart_is_doubted():
    """What was watched before the start is evidence too."""
    membership = Membership(config(project(pipelines=[])).projects[0], 0, OwnershipRegistry())
    names = {f"{number:032x}": f"name {number}" for number in range(100)}
    membership.recall(names)
    assert membership.listed(dict(list(names.items())[:1]))
    assert len(membership.pipelines()) == 100


# limits.max_pipelines


def test_above_the_limit_the_first_pipelines_by_id_are_watched():
    membership = limited(3, pipelines=[], discover={"exclude": ["name 0"]})
    membership.listed(dict(reversed(many(10).items())))
    assert sorted(names(membership)) == ["id1", "id2", "id3"]
    assert membership.surplus == 6


def test_pipeline_with_a_smaller_id_takes_the_place_of_another():
    membership = limited(2, pipelines=[], discover={})
    membership.listed({"c": "c", "b": "b", "d": "d"})
    membership.listed({"c": "c", "b": "b", "d": "d", "a": "a"})
    assert sorted(names(membership)) == ["a", "b"]
    assert membership.surplus == 2
    membership.listed({"c": "c", "d": "d"})
    membership.listed({"c": "c", "d": "d"})
    assert (sorted(names(membership)), membership.surplus) == (["c", "d"], 0)


def test_pipeline_that_one_listing_lacks_keeps_its_place():
    membership = limited(2, pipelines=[], discover={})
    membership.listed({"a": "a", "b": "b", "c": "c"})
    membership.listed({"b": "b", "c": "c"})
    assert sorted(names(membership)) == ["a", "b"]


def test_configured_pipelines_come_before_discovered_ones():
    membership = limited(2, pipelines=["z"], discover={})
    membership.listed({"a": "a", "b": "b", "z": "z"})
    assert (sorted(names(membership)), membership.surplus) == (["a", "z"], 1)


def test_configured_pipelines_are_limited_too():
    membership = limited(2, pipelines=["z", "a", "b"])
    assert (list(names(membership)), membership.surplus) == (["a", "b"], 1)


def test_remembered_pipelines_are_limited_too():
    membership = limited(2, pipelines=[], discover={})
    membership.recall({"c": "c", "b": "b", "a": "a"})
    assert sorted(names(membership)) == ["a", "b"]


def test_each_shard_has_its_own_limit():
    section = config(project(pipelines=[], discover={})).projects[0]
    found = many(1000)
    watched: set[str] = set()
    for index in range(4):
        whole = Membership(section, 0, OwnershipRegistry(), Shard(index, 4))
        part = Membership(section, 0, OwnershipRegistry(), Shard(index, 4), limit=100)
        whole.listed(found)
        part.listed(found)
        assert sorted(names(part)) == sorted(names(whole))[:100]
        assert part.surplus == len(names(whole)) - 100
        watched |= names(part).keys()
    assert len(watched) == 400
