"""Rows are kept part by part, and a page is made of all of them."""

import json

import pytest

from loadtest.proofs import page
from loadtest.proofs.page import HEADS, keep, prove, prove_part
from loadtest.proofs.system import Row

GOOD, BAD = Row("what", "1", "2", 1_000, 3.0, True), Row("other", "3", "2", 7, 3.0, False)
HEAD = {"made": "today", "machine": "two cores", "load_before": 0.1, "commit": "abc", "took_s": 9.0, "versions": {"numpy": "2.9"}}


def parts_of(folder):
    return json.loads((folder / "reliability.json").read_text())["parts"]


def test_a_part_replaces_its_own_rows_and_no_others(tmp_path):
    keep(tmp_path, "soak, long", [GOOD], HEAD)
    keep(tmp_path, "drain, short", [GOOD], HEAD)
    keep(tmp_path, "drain, short", [BAD], HEAD)
    parts = parts_of(tmp_path)
    assert {name: [row["what"] for row in part["rows"]] for name, part in parts.items()} == {
        "soak, long": ["what"], "drain, short": ["other"],
    }  # fmt: skip
    text = (tmp_path / "reliability.md").read_text()
    assert text.index("SIGTERM (drain, short)") < text.index("Time (soak, long)")
    assert "| what | 1 | 2 | 1,000 | 3.0 | yes |" in text
    assert "| other | 3 | 2 | 7 | 3.0 | **no** |" in text
    assert "commit abc, 9 s; one run. With numpy 2.9." in text


@pytest.fixture
def proved(monkeypatch):
    """Parts that were proved, in order; workers is not met."""
    parts = []
    monkeypatch.setattr(
        page, "prove_part", lambda part, sizes, folder: parts.append(part) or [BAD if part == "workers" else GOOD]
    )
    return parts


def test_all_parts_are_proved_and_kept_and_one_that_is_not_met_is_said(tmp_path, proved):
    where, met = prove(False, results=tmp_path, folder=tmp_path)
    assert (where, met, proved) == (tmp_path / "reliability.md", False, list(HEADS))
    assert list(parts_of(tmp_path)) == [f"{part}, short" for part in HEADS]


def test_some_parts_in_the_long_form(tmp_path, proved):
    _, met = prove(True, "fuzz,drain", tmp_path, tmp_path)
    assert (met, proved) == (True, ["drain", "fuzz"])
    assert list(parts_of(tmp_path)) == ["drain, long", "fuzz, long"]


def test_a_part_that_breaks_leaves_what_was_proved_before_it(tmp_path, monkeypatch):
    def breaks_at_swaps(part, sizes, folder):
        if part == "swaps":
            raise ValueError("broken")
        return [GOOD]

    monkeypatch.setattr(page, "prove_part", breaks_at_swaps)
    with pytest.raises(ValueError, match="broken"):
        prove(False, results=tmp_path, folder=tmp_path)
    assert list(parts_of(tmp_path)) == ["overload, short", "protocol, short", "faults, short"]


def test_an_unknown_part_is_refused_before_anything_is_proved(tmp_path, proved):
    with pytest.raises(ValueError, match="no part speed; there are overload, protocol, faults"):
        prove(False, "fuzz,speed", tmp_path, tmp_path)
    assert proved == []


def test_both_forms_have_the_same_sizes():
    assert set(page.SHORT) == set(page.LONG)
    assert all(page.LONG[name] > page.SHORT[name] for name in page.SHORT)
    assert callable(prove_part)
