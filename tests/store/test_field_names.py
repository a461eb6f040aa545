import pytest
from hypothesis import given
from hypothesis import strategies as st

from store import keys
from store.field_names import read_names

NUMBER = st.integers(0, 2**31 - 1)


@given(st.lists(st.tuples(NUMBER, st.none() | NUMBER)))
def test_names_that_were_made_are_read(drawn):
    names = [keys.LEAF_FIELD % own if part is None else keys.PART_FIELD % (own, part) for own, part in drawn]
    category, is_part = read_names(names)
    assert category.tolist() == [own for own, _ in drawn]
    assert is_part.tolist() == [part is not None for _, part in drawn]


@pytest.mark.parametrize(
    "name", [
        b"", b".", b"2.", b".2", b"2.3.4", b"02", b"2.03", b"-2", b"+2", b" 2", b"2\n", b"2\0", b"2/", b"2:", b"n", b"2.n",
        b"\xff", b"2147483648", b"2.2147483648", b"%d" % (2**64 + 7), b"9" * 400, b"2." + b"9" * 400,
    ],
)  # fmt: skip
def test_a_name_of_another_form_is_told_from_its_neighbours(name):
    category, _ = read_names([b"7", name, b"7.1"])
    assert category.tolist() == [7, -1, 7]


@given(st.lists(st.binary(max_size=14) | st.text("0123456789.", max_size=14).map(str.encode)))
def test_any_bytes_are_a_name_or_none(names):
    category, part = read_names(names)
    for name, own, is_part in zip(names, category.tolist(), part.tolist(), strict=True):
        numbers = name.split(b".")
        good = len(numbers) < 3 and all(one.isdigit() and int(one) < 2**31 and b"%d" % int(one) == one for one in numbers)
        assert own == (int(numbers[0]) if good else -1)
        assert not good or is_part == (len(numbers) == 2)
