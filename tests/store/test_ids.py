import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.ids import InvalidId, canonical_id, canonical_ids


def test_seven_and_the_text_7_are_one_id():
    assert canonical_id(7) == canonical_id("7") == "7"


@pytest.mark.parametrize("value", [0, -1, 2**63 - 1, -(2**63)])
def test_an_int64_is_its_decimal_text(value):
    assert canonical_id(value) == str(value)


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 10**30])
def test_an_integer_beyond_int64_is_refused_and_named(value):
    with pytest.raises(InvalidId, match=str(value)):
        canonical_id(value)


@pytest.mark.parametrize("text", ["u42", " ", "007", "-0", "a b", "{x}%", "é", "用户", "🛒", "x" * 128, "é" * 64])
def test_a_text_is_kept_as_it_is(text):
    assert canonical_id(text) == text


def test_two_texts_of_one_number_stay_two_ids():
    assert canonical_id("07") != canonical_id(7)


@pytest.mark.parametrize(
    ("value", "kind"), [(True, "boolean"), (False, "boolean"), (1.0, "fraction"), (float("nan"), "fraction")]
)
def test_booleans_and_fractions_are_no_ids(value, kind):
    with pytest.raises(InvalidId, match=kind):
        canonical_id(value)


@pytest.mark.parametrize(("value", "kind"), [(None, "null"), ([], "list"), ({}, "object"), (b"u", "bytes")])
def test_other_json_values_are_no_ids(value, kind):
    with pytest.raises(InvalidId, match=kind):
        canonical_id(value)


def test_the_empty_text_is_refused():
    with pytest.raises(InvalidId, match="0 bytes"):
        canonical_id("")


def test_a_text_of_129_bytes_is_refused_with_both_numbers():
    with pytest.raises(InvalidId, match=r"129 bytes.*128"):
        canonical_id("x" * 129)


def test_the_limit_counts_bytes_of_utf_8():
    with pytest.raises(InvalidId, match="130 bytes"):
        canonical_id("é" * 65)


@pytest.mark.parametrize("text", ["\0", "a\0b", "é\0"])
def test_nul_is_refused(text):
    with pytest.raises(InvalidId, match="NUL"):
        canonical_id(text)


def test_a_lone_surrogate_is_refused():
    with pytest.raises(InvalidId, match="UTF-8"):
        canonical_id("\ud800")


@given(st.one_of(st.text(max_size=140), st.integers(), st.floats(), st.none(), st.booleans(), st.binary()))
def test_every_value_is_an_id_or_refused(value):
    try:
        text = canonical_id(value)
    except InvalidId:
        return
    assert type(text) is str
    assert 1 <= len(text.encode()) <= 128
    assert canonical_id(text) == text


VALUES = st.one_of(
    st.text("ab\0é", max_size=3), st.sampled_from(["x" * 128, "x" * 129, "\ud800", ""]), st.integers(), st.none(), st.booleans()
)


@given(st.lists(VALUES | st.text("abc", min_size=1, max_size=3), max_size=5) | st.lists(st.text("abc", max_size=3), max_size=5))
def test_many_ids_are_what_each_is_by_itself(values):
    each, fault = [], ""
    for value in values:
        try:
            each.append(canonical_id(value))
        except InvalidId as error:
            fault = str(error)
            break
    if fault:
        with pytest.raises(InvalidId, match=re.escape(f"[{len(each)}] {fault}")):
            canonical_ids(values)
    else:
        assert canonical_ids(values) == each


def test_of_many_ids_the_first_that_is_none_is_named():
    with pytest.raises(InvalidId, match=r"^\[1\] holds a NUL"):
        canonical_ids(["a", "b\0c", "d"])
