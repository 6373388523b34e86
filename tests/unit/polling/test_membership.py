"""Pipelines of a project and their names: what a list changes, and when the exporter does not believe it."""

from typing import Any

import pytest

from exporter.core.model import LABEL_LENGTH, Pipeline
from exporter.core.shard import Shard
from exporter.polling.list_caution import AGREEING
from exporter.polling.membership import ABSENCES, Membership, membership_hint
from exporter.polling.ownership import OwnershipRegistry
from tests.drivers.support import config, project

DISCOVERS: dict[str, Any] = {"pipelines": [], "discover": {}}
EMPTY = membership_hint(config().projects[0])


def members(**changes: Any) -> Membership:
    """Return the pipelines of a single project."""
    return Membership(config(project(**changes)).projects[0], 0, OwnershipRegistry())


def limited(limit: int, **changes: Any) -> Membership:
    """Return the pipelines of a single project with a limit."""
    return Membership(config(project(**changes)).projects[0], 0, OwnershipRegistry(), limit=limit)


def two(
    first: dict[str, Any], second: dict[str, Any], shard: Shard | None = None
) -> tuple[Membership, Membership]:
    """Return the pipelines of two projects of one configuration."""
    registry = OwnershipRegistry()
    projects = config(project(name="payments", **first), project(name="mobile", **second)).projects
    one, other = (Membership(section, index, registry, shard) for index, section in enumerate(projects))
    return one, other


def shards(total: int, **changes: Any) -> list[Membership]:
    """Return the pipelines that each shard has of a single project."""
    section = config(project(**changes)).projects[0]
    return [Membership(section, 0, OwnershipRegistry(), Shard(index, total)) for index in range(total)]


def names(membership: Membership) -> dict[str, str]:
    """Return the names of the watched pipelines by id."""
    return {one.id: one.name for one in membership.pipelines()}


def many(count: int, first: int = 0) -> dict[str, str]:
    """Return a list of `count` pipelines."""
    return {f"id{index}": f"name {index}" for index in range(first, first + count)}


def labels(membership: Membership, identity: str) -> dict[str, str]:
    """Return the labels of a pipeline."""
    return dict(next(one.labels for one in membership.pipelines() if one.id == identity))


# Configured


def test_configured_pipelines_are_watched_before_the_first_list():
    membership = members(pipelines=["a", {"id": "b", "name": "checkout"}])
    assert names(membership) == {"a": "a", "b": "checkout"}
    assert membership.unnamed == {"a"}
    assert membership.wants_names


def test_pipeline_has_provider_and_project_but_no_url_or_labels_by_default():
    assert members(pipelines=["a"]).pipelines() == (Pipeline("codearts", "payments", "a", "a"),)


def test_no_names_are_wanted_if_all_are_configured():
    membership = members(pipelines=[{"id": "b", "name": "checkout"}])
    assert not membership.wants_names
    assert membership.unnamed == frozenset()


def test_list_names_configured_pipelines_and_adds_none_without_discovery():
    membership = members(pipelines=["a", {"id": "b", "name": "checkout"}])
    assert membership.listed({"a": "search", "b": "other", "c": "third"}) == ""
    assert names(membership) == {"a": "search", "b": "checkout"}
    assert membership.unnamed == frozenset()


def test_configured_pipeline_stays_if_lists_lack_it():
    membership = members(pipelines=["a"], discover={})
    membership.listed({"a": "search", **many(3)})
    for _ in range(5):
        membership.listed(many(3))
    assert names(membership)["a"] == "search"


def test_every_list_is_believed_without_discovery():
    """Without discovery, a list only names pipelines."""
    membership = members(pipelines=["a"])
    for found in (many(100), {}, many(1), {}):
        assert membership.listed(found) == ""


def test_configured_pipelines_are_before_discovered_ones():
    membership = members(pipelines=["z", "a"], discover={})
    membership.listed({"m": "m", "a": "a", "b": "b"})
    membership.listed({"b": "b", "c": "c", "m": "m", "a": "a"})
    assert list(names(membership)) == ["z", "a", "m", "b", "c"]


# Discovered


def test_all_pipelines_are_discovered_if_none_is_configured():
    changes: dict[str, Any]
    for changes in ({"pipelines": []}, DISCOVERS):
        membership = members(**changes)
        assert membership.pipelines() == ()
        assert membership.listed(many(3)) == ""
        assert names(membership) == many(3)


def test_include_and_exclude_match_whole_names():
    """`exclude` wins over `include`."""
    membership = members(
        pipelines=[], discover={"include": ["pay-.*", "tax"], "exclude": [".*-test", "pay-x"]}
    )
    found = ["pay-in", "pay-in-test", "pay-x", "pay-xy", "tax", "taxes", "a pay-in"]
    membership.listed({f"id{index}": name for index, name in enumerate(found)})
    assert list(names(membership).values()) == ["pay-in", "pay-xy", "tax"]


def test_configured_pipeline_is_watched_although_its_name_is_excluded():
    membership = members(pipelines=["a"], discover={"exclude": ["sandbox"]})
    membership.listed({"a": "sandbox", "b": "sandbox"})
    assert names(membership) == {"a": "sandbox"}


def test_discovered_pipeline_leaves_after_two_lists_without_it():
    membership = members(**DISCOVERS)
    membership.listed(many(4))
    for _ in range(ABSENCES - 1):
        membership.listed(many(3))
        assert names(membership) == many(4)
    membership.listed(many(3))
    assert names(membership) == many(3)


def test_pipeline_stays_if_only_separate_lists_lack_it():
    membership = members(**DISCOVERS)
    for found in (many(4), many(3), many(4), many(3)):
        membership.listed(found)
    assert names(membership) == many(4)


def test_pipeline_that_left_can_return():
    membership = members(**DISCOVERS)
    for found in (many(4), many(3), many(3), {**many(3), "id3": "another name"}):
        membership.listed(found)
    assert names(membership)["id3"] == "another name"


# Not believed


@pytest.mark.parametrize("found", [{}, many(1), many(4), many(4, first=90)])
def test_list_that_shrinks_by_more_than_half_is_not_believed(found):
    """A lost permission is more likely than the deletion of so many pipelines."""
    membership = members(**DISCOVERS)
    membership.listed(many(9))
    for _ in range(AGREEING - 1):
        assert membership.listed(found) != ""
        assert names(membership) == many(9)


def test_reason_for_disbelief_names_the_likely_cause():
    membership = members(**DISCOVERS)
    assert membership.listed({}) == EMPTY
    membership = members(**DISCOVERS)
    membership.listed(many(9))
    assert membership.listed({}) == EMPTY
    reason = membership.listed(many(4))
    assert "4 pipelines after 9" in reason
    assert "permission" in reason


def test_first_list_and_half_of_the_last_one_are_believed():
    for before, after in ((8, 4), (9, 5), (1, 1), (0, 1)):
        membership = members(**DISCOVERS)
        if before:
            assert membership.listed(many(before)) == ""
        assert membership.listed(many(after)) == ""


def test_disbelief_depends_on_all_listed_pipelines_not_on_selected_ones():
    membership = members(pipelines=[], discover={"include": ["name 8"]})
    membership.listed(many(9))
    assert membership.listed(many(5)) == ""
    membership.listed(many(5))
    assert names(membership) == {}


def test_third_short_list_in_agreement_is_believed():
    """It counts as the first list without the other pipelines, which leave with the next one."""
    membership = members(**DISCOVERS)
    membership.listed(many(9))
    for _ in range(AGREEING - 1):
        membership.listed(many(2))
    assert membership.listed(many(2)) == ""
    assert names(membership) == many(9)
    assert membership.listed(many(2)) == ""
    assert names(membership) == many(2)


def test_empty_list_is_not_doubted_again_once_believed():
    membership = members(**DISCOVERS)
    membership.listed(many(1))
    doubts = [membership.listed({}) for _ in range(10)]
    assert [bool(reason) for reason in doubts] == [True] * (AGREEING - 1) + [False] * (11 - AGREEING)
    assert names(membership) == {}


def test_empty_list_proves_nothing_while_the_project_is_refused():
    membership = members(**DISCOVERS)
    membership.listed(many(2))
    for _ in range(3 * AGREEING):
        assert membership.listed({}, refused=True) == EMPTY
    assert names(membership) == many(2)
    # Those lists do not agree with later ones either.
    assert [bool(membership.listed({})) for _ in range(AGREEING)] == [True] * (AGREEING - 1) + [False]


def test_first_empty_lists_are_not_believed():
    """A missing permission is the most likely cause."""
    membership = members(**DISCOVERS)
    assert [bool(membership.listed({})) for _ in range(5)] == [True, True, False, False, False]
    assert membership.listed(many(2)) == ""
    assert names(membership) == many(2)
    assert membership.listed({}) == EMPTY


def test_complete_list_resets_the_count_of_short_lists():
    membership = members(**DISCOVERS)
    membership.listed(many(9))
    for _ in range(4):
        for _ in range(AGREEING - 1):
            assert membership.listed({}) != ""
        assert membership.listed(many(9)) == ""
    assert names(membership) == many(9)


def test_disbelieved_list_neither_removes_nor_adds_pipelines():
    membership = members(**DISCOVERS)
    membership.listed(many(9))
    membership.listed(many(8))
    membership.listed({"new": "new"})
    membership.listed(many(9))
    membership.listed(many(8))
    assert names(membership) == many(9)


# Names


def test_last_list_sets_the_name():
    membership = members(pipelines=["a"], discover={})
    membership.listed({"a": "one", "b": "two"})
    membership.listed({"a": "uno", "b": "due"})
    assert names(membership) == {"a": "uno", "b": "due"}


def test_name_stays_if_a_list_lacks_the_pipeline_or_its_name():
    membership = members(pipelines=["a"], discover={})
    membership.listed({"a": "one", "b": "two"})
    for found in ({"a": "", "b": ""}, {"b": ""}, {}, {"a": "", "b": ""}):
        membership.listed(found)
        assert names(membership) == {"a": "one", "b": "two"}


def test_discovered_pipeline_without_a_name_is_watched_under_its_id():
    membership = members(**DISCOVERS)
    membership.listed({"a": ""})
    assert names(membership) == {"a": "a"}
    membership.listed({"a": "one"})
    assert names(membership) == {"a": "one"}


def test_row_without_a_name_keeps_a_pipeline_selected_by_its_last_name():
    membership = members(pipelines=[], discover={"include": ["pay-.*"]})
    membership.listed({"a": "pay-in"})
    membership.listed({"a": ""})
    assert names(membership) == {"a": "pay-in"}


def test_renamed_pipeline_leaves_at_once_if_its_new_name_is_excluded():
    """It returns with its next name."""
    membership = members(pipelines=[], discover={"exclude": ["sandbox-.*"]})
    membership.listed({"a": "pay", "b": "tax"})
    membership.listed({"a": "sandbox-pay", "b": "tax"})
    assert names(membership) == {"b": "tax"}
    membership.listed({"a": "pay again", "b": "tax"})
    assert names(membership) == {"b": "tax", "a": "pay again"}


def test_configured_name_wins_over_the_listed_one():
    membership = members(pipelines=[{"id": "a", "name": "mine"}], discover={})
    membership.listed({"a": "theirs"})
    assert names(membership) == {"a": "mine"}


def test_long_names_are_cut_after_they_are_matched():
    long = "n" * 1000
    listed = {"id": "a", "name": long}
    membership = members(pipelines=[listed], discover={"include": ["n{1000}"], "exclude": ["n{256}"]})
    membership.listed({"b": long})
    assert names(membership) == dict.fromkeys("ab", "n" * LABEL_LENGTH)


# Labels and URLs


def test_labels_of_a_pipeline_win_over_those_by_name_and_of_the_project():
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
    """They match the configured name, if there is one, and follow a renaming."""
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


def test_url_is_filled_from_the_template():
    membership = members(
        pipelines=["a"],
        project_id="P",
        url_template="https://x/{project_id}/{pipeline_id}?again={pipeline_id}",
        discover={},
    )
    membership.listed({"b": "two"})
    assert [one.url for one in membership.pipelines()] == ["https://x/P/a?again=a", "https://x/P/b?again=b"]


def test_long_url_is_empty():
    """A part of the URL would lead to another page."""
    longest = f"https://x/{'y' * (LABEL_LENGTH - len('https://x/'))}"
    (one,) = members(pipelines=["a"], url_template=longest).pipelines()
    assert one.url == longest
    (one,) = members(pipelines=["a"], url_template=f"{longest}y").pipelines()
    assert one.url == ""


# Ownership


@pytest.mark.parametrize("later_is_first", [False, True])
def test_earlier_project_owns_a_pipeline_that_two_discover(later_is_first):
    """It does even if the later project lists the pipeline first."""
    one, other = two(DISCOVERS, DISCOVERS)
    order = [other, one, other] if later_is_first else [one, other]
    for membership in order:
        membership.listed(many(2))
    assert names(one) == many(2)
    assert names(other) == {}


@pytest.mark.parametrize("owner", [0, 1])
def test_project_that_configures_a_pipeline_owns_it(owner):
    sections = [DISCOVERS, DISCOVERS]
    sections[owner] = {"pipelines": ["id0"]}
    both = two(sections[0], sections[1])
    for membership in both:
        membership.listed(many(2))
    assert names(both[owner]) == {"id0": "name 0"}
    assert names(both[1 - owner]) == {"id1": "name 1"}


def test_pipeline_that_left_the_earlier_project_moves_to_the_other():
    """It was deleted there, or its new name is excluded."""
    one, other = two({"pipelines": [], "discover": {"exclude": ["mobile-.*"]}}, DISCOVERS)
    for membership in (one, other):
        membership.listed(many(4))
    for _ in range(ABSENCES):
        one.listed({**many(2), "id3": "mobile-app"})
    other.listed({**many(3), "id3": "mobile-app"})
    assert names(one) == many(2)
    assert names(other) == {"id2": "name 2", "id3": "mobile-app"}


def test_pipeline_found_later_by_the_earlier_project_leaves_the_other():
    one, other = two(DISCOVERS, DISCOVERS)
    other.listed(many(2))
    one.listed(many(1))
    other.listed(many(2))
    assert names(other) == {"id1": "name 1"}
    for _ in range(ABSENCES):
        other.listed(many(1, first=1))
    one.listed(many(2))
    assert names(one) == many(2)


def test_same_id_at_another_address_is_another_pipeline():
    one, other = two(DISCOVERS, {**DISCOVERS, "endpoint": "http://127.0.0.1:2"})
    for membership in (one, other):
        membership.listed(many(2))
    assert names(one) == names(other) == many(2)


# Shards


def parts(memberships: list[Membership]) -> dict[str, str]:
    """Return the names of all shards' pipelines by id; no pipeline is watched twice."""
    own = [names(membership) for membership in memberships]
    together = {identity: name for part in own for identity, name in part.items()}
    assert sum(map(len, own)) == len(together)
    return together


def test_each_pipeline_is_watched_by_one_shard():
    memberships = shards(3, pipelines=[f"id{index}" for index in range(10)], discover={})
    assert set(parts(memberships)) == set(many(10))
    for membership in memberships:
        assert membership.listed(many(40)) == ""
    assert parts(memberships) == many(40)
    assert all(0 < len(names(membership)) < 40 for membership in memberships)


def test_shard_wants_names_of_its_own_pipelines_only():
    memberships = shards(3, pipelines=["a"])
    (owner,) = (membership for membership in memberships if membership.pipelines())
    for membership in memberships:
        assert membership.wants_names is (membership is owner)
        assert membership.unnamed == ({"a"} if membership is owner else frozenset())
        assert membership.listed({"a": "search"}) == ""
        assert names(membership) == ({"a": "search"} if membership is owner else {})


def test_each_shard_judges_the_whole_list():
    """So does a shard whose own part has not shrunk, or has vanished."""
    for membership in shards(4, **DISCOVERS):
        own = set(names_after(membership, many(40)))
        rest = {identity: name for identity, name in many(40).items() if identity not in own}
        assert membership.listed(rest) == ""
        assert membership.listed(many(40)) == ""
        assert "after 40" in membership.listed({identity: many(40)[identity] for identity in own})
        assert set(names(membership)) == own


def names_after(membership: Membership, found: dict[str, str]) -> dict[str, str]:
    """Return the watched names after a list that is believed."""
    assert membership.listed(found) == ""
    return names(membership)


def test_pipelines_leave_and_are_renamed_with_shards_as_without():
    memberships = shards(3, pipelines=[], discover={"exclude": ["sandbox"]})
    for membership in memberships:
        for found in (many(12), *[{**many(10), "id0": "sandbox", "id1": "another"}] * ABSENCES):
            membership.listed(found)
    expected = {**many(10), "id1": "another"}
    del expected["id0"]
    assert parts(memberships) == expected


def test_pipeline_of_two_projects_has_the_same_owner_in_all_shards():
    first: list[str] = []
    second: list[str] = []
    for index in range(3):
        # The second is another project of the vendor, so that its pipelines are sharded in another way.
        one, other = two({"pipelines": ["id0"]}, {**DISCOVERS, "project_id": "0" * 32}, Shard(index, 3))
        for membership in (other, one):
            membership.listed(many(20))
        first += names(one)
        second += names(other)
    assert first == ["id0"]
    assert sorted(second) == sorted(many(20).keys() - {"id0"})


def test_list_that_shrank_across_a_restart_is_not_believed():
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


def test_pipeline_with_a_smaller_id_replaces_another():
    membership = limited(2, pipelines=[], discover={})
    membership.listed({"c": "c", "b": "b", "d": "d"})
    membership.listed({"c": "c", "b": "b", "d": "d", "a": "a"})
    assert sorted(names(membership)) == ["a", "b"]
    assert membership.surplus == 2
    membership.listed({"c": "c", "d": "d"})
    membership.listed({"c": "c", "d": "d"})
    assert (sorted(names(membership)), membership.surplus) == (["c", "d"], 0)


def test_pipeline_that_one_list_lacks_is_not_replaced():
    membership = limited(2, pipelines=[], discover={})
    membership.listed({"a": "a", "b": "b", "c": "c"})
    membership.listed({"b": "b", "c": "c"})
    assert sorted(names(membership)) == ["a", "b"]


def test_limit_keeps_configured_pipelines_before_discovered_ones():
    membership = limited(2, pipelines=["z"], discover={})
    membership.listed({"a": "a", "b": "b", "z": "z"})
    assert (sorted(names(membership)), membership.surplus) == (["a", "z"], 1)


def test_configured_pipelines_are_limited_too():
    membership = limited(2, pipelines=["z", "a", "b"])
    assert (list(names(membership)), membership.surplus) == (["a", "b"], 1)


def test_restored_pipelines_are_limited_too():
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
