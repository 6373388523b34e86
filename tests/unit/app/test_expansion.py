"""Entries of the configuration are replaced by the projects that they have found."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from exporter.app.expansion import MOST, expand
from exporter.settings.settings import Config
from tests.drivers.support import config, project
from tests.marks import examples

ACCOUNT = "account"


def entry(name: str = ACCOUNT, **changes: Any) -> dict[str, Any]:
    found = project(name=name, discover_projects={"endpoint": "http://127.0.0.1:2"}, pipelines=[], **changes)
    del found["project_id"]
    return found


def names(expanded: Config) -> list[str]:
    return [one.name for one in expanded.projects]


def test_entry_becomes_a_project_for_each_that_it_has_found():
    source = config(project(), entry(labels={"team": "a"}, rate_limit={"requests_per_second": 3}))
    expansion = expand(source, {ACCOUNT: {"b2": "Search", "a1": "Payments"}})
    assert names(expansion.config) == ["payments", "account/Payments", "account/Search"]
    found = expansion.config.projects[1]
    assert (found.scope, found.project_search, found.labels) == ("a1", None, {"team": "a"})
    assert found.rate_limit.requests_per_second == 3
    assert found.base_url == source.projects[1].base_url
    assert expansion.entries == {"account/Payments": ACCOUNT, "account/Search": ACCOUNT}
    assert (expansion.collisions, expansion.surplus) == ((), {})


def test_entry_that_has_found_nothing_is_no_project():
    assert names(expand(config(project(), entry()), {}).config) == ["payments"]


def test_configuration_without_entries_stays_as_it_is():
    source = config(project(), project(name="other", pipelines=["1" * 32]))
    assert expand(source, {}).config == source


def test_projects_of_one_name_get_their_ids():
    expansion = expand(config(entry()), {ACCOUNT: {"a1": "Same", "b2": "Same", "c3": "Other"}})
    assert names(expansion.config) == ["account/Same (a1)", "account/Same (b2)", "account/Other"]
    assert expansion.collisions == (("account", "a1", "account/Same"), ("account", "b2", "account/Same"))


def test_configured_project_keeps_its_name():
    source = config(project(name="account/Payments"), entry())
    expansion = expand(source, {ACCOUNT: {"a1": "Payments"}})
    assert names(expansion.config) == ["account/Payments", "account/Payments (a1)"]


def test_limited_number_of_projects_is_followed():
    found = {f"{number:04}": f"Project {number}" for number in range(MOST + 3)}
    expansion = expand(config(entry()), {ACCOUNT: found})
    assert len(expansion.config.projects) == MOST
    assert expansion.config.projects[-1].scope == f"{MOST - 1:04}"
    assert expansion.surplus == {ACCOUNT: 3}


IDS = st.text("abc", min_size=1, max_size=3)
NAMES = st.sampled_from(["", "x", "x (a)", "x (b)", "x (a) (a)", "account/x"])


@examples(300)
@given(found=st.dictionaries(IDS, NAMES, max_size=12), other=st.dictionaries(IDS, NAMES, max_size=12))
def test_names_are_unique_and_do_not_depend_on_the_order(found, other):
    source = config(project(name="account/x"), entry(), entry("account/account"))
    expansion = expand(source, {ACCOUNT: found, "account/account": other})
    assert len(set(names(expansion.config))) == 1 + len(found) + len(other)
    turned = dict(reversed(found.items()))
    assert expand(source, {"account/account": other, ACCOUNT: turned}) == expansion
    scopes = [one.scope for one in expansion.config.projects[1:]]
    assert scopes == [*sorted(found), *sorted(other)]
