"""A list that has suddenly shrunk is believed only when it comes again and again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.polling.list_caution import AGREEING, ListCaution
from tests.marks import examples

EMPTY = "not a member"
TEN = [str(number) for number in range(10)]


@pytest.fixture
def caution() -> ListCaution:
    """A caution that has believed a list of ten."""
    caution = ListCaution("rows", EMPTY)
    assert not caution.doubt(TEN)
    return caution


def test_first_list_is_believed_unless_it_is_empty():
    assert not ListCaution("rows", EMPTY).doubt(["1"])
    assert ListCaution("rows", EMPTY).doubt([]) == EMPTY


def test_half_of_a_list_is_believed_and_less_is_not(caution):
    assert not ListCaution("rows", EMPTY).doubt(TEN[:5])
    assert caution.doubt(TEN[:4]) == "the list has 4 rows after 10; did the user lose a permission?"
    assert caution.size == 10
    assert not caution.doubt(TEN[:5])
    assert caution.size == 5


@pytest.mark.parametrize("short", [TEN[:3], []], ids=["short", "empty"])
def test_list_that_comes_again_is_believed(caution, short):
    doubts = [caution.doubt(short) for _ in range(AGREEING)]
    assert all(doubts[:-1])
    assert not doubts[-1]
    assert caution.size == len(short)


def test_lists_that_differ_do_not_agree(caution):
    for number in range(2 * AGREEING):
        assert caution.doubt([TEN[number % 2]])


def test_empty_list_is_never_believed_while_the_user_is_refused(caution):
    assert {caution.doubt([], refused=True) for _ in range(2 * AGREEING)} == {EMPTY}


@examples(200)
@given(st.lists(st.sets(st.sampled_from(TEN)), max_size=12))
def test_size_is_that_of_the_last_list_that_was_believed(lists):
    caution = ListCaution("rows", EMPTY)
    for found in lists:
        before = caution.size
        doubt = caution.doubt(found)
        assert caution.size == (before if doubt else len(found))
