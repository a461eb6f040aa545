import pytest

from loadtest.storing import item_tables


def test_every_form_of_tables_is_measured_for_every_life(shared_bundle, monkeypatch):
    monkeypatch.setattr(item_tables, "REPEATS", 1)
    monkeypatch.setattr(item_tables, "LIVES", (20, 40))
    table = item_tables.bench_tables(shared_bundle)
    columns = [list(column.cells) for column in table.columns]
    assert columns[:2] == [["20"] * 3 + ["40"] * 3, ["mapped", "cached", "not cached"] * 2]
    assert columns[5][:2] == ["", "100.0%"]
    assert columns[5][2] not in ("", "100.0%")  # two blocks, one slot
    assert all(float(ms) > 0 for ms in columns[2])


@pytest.fixture
def shared_bundle(tmp_path, data_name):
    from tests.service.tiny import Tiny

    return Tiny.at(tmp_path, data_name).add("eta")
