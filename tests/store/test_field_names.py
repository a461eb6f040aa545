import pytest
from hypothesis import given
from hypothesis import strategies as st

from store import keys
from store.field_names import read_names

NUMBER = st.integers(0, 2**31 - 1)


@given(st.lists(st.tuples(NUMBER, st.booleans())))
def test_names_that_were_made_are_read(drawn):
    names = [(keys.OLDER_FIELD if older else keys.LEAF_FIELD) % own for own, older in drawn]
    category, is_older = read_names(names)
    assert category.tolist() == [own for own, _ in drawn]
    assert is_older.tolist() == [older for _, older in drawn]


@pytest.mark.parametrize(
    "name", [
        b"", b".", b"2.", b".2", b"2.3", b"02", b"02.older", b"-2", b"+2", b" 2", b"2\n", b"2\0", b"2/", b"2:", b"n", b"older",
        b".older", b"2older", b"2.older.older", b"2.olde", b"2.oldest", b"2.Older", b"\xff", b"2147483648", b"2147483648.older",
        b"%d" % (2**64 + 7), b"9" * 400, b"9" * 400 + b".older",
    ],
)  # fmt: skip
def test_a_name_of_another_form_is_told_from_its_neighbours(name):
    category, _ = read_names([b"7", name, b"7.older"])
    assert category.tolist() == [7, -1, 7]


@given(st.lists(st.binary(max_size=14) | st.from_regex(r"[0-9.oldrx]{0,8}(\.older)?", fullmatch=True).map(str.encode)))
def test_any_bytes_are_a_name_or_none(names):
    category, older = read_names(names)
    for name, own, is_older in zip(names, category.tolist(), older.tolist(), strict=True):
        number = name.removesuffix(b".older")
        good = number.isdigit() and int(number) < 2**31 and b"%d" % int(number) == number
        assert own == (int(number) if good else -1)
        assert not good or is_older == (number != name)
