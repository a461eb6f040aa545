"""Your own data: what is accepted, and how a fault is named."""

import numpy as np
import pandas as pd
import pytest

from export.data.prepare import prepare
from export.data.source import DataInvalid
from tests.export.data import own


def refused(tmp_path, change, *words):
    table = own.interactions()
    table = change(table) if callable(change) else table
    own.write(tmp_path / "shop", table)
    with pytest.raises(DataInvalid) as error:
        prepare(str(tmp_path / "shop"), into=tmp_path / "data")
    assert all(word in str(error.value) for word in ("interactions.parquet", *words)), error.value
    assert not (tmp_path / "data" / "shop").exists(), "nothing half-written"


def with_value(column, row, value, dtype=object):
    def change(table):
        table[column] = table[column].astype(dtype)
        table.loc[row, column] = value
        return table

    return change


@pytest.mark.parametrize("column", ["user_id", "item_id", "category", "ts"])
def test_a_missing_column_is_named(tmp_path, column):
    refused(tmp_path, lambda table: table.drop(columns=column), column)


def test_a_null_id_is_named_with_its_row(tmp_path):
    refused(tmp_path, with_value("user_id", 17, None), "user_id", "row 17")


def test_a_fractional_id_is_refused(tmp_path):
    refused(tmp_path, lambda table: table.assign(item_id=table["item_id"] + 0.5), "item_id", "row 0")


def test_an_id_that_is_too_long_is_named_with_its_row(tmp_path):
    refused(tmp_path, with_value("user_id", 4, "x" * 129), "user_id", "row 4", "129")


def test_milliseconds_are_named_with_row_and_both_numbers(tmp_path):
    refused(tmp_path, with_value("ts", 9, 1_600_000_000_000, "int64"), "ts", "row 9", "1600000000000", "4102444800")


def test_a_label_beyond_one_is_refused(tmp_path):
    refused(tmp_path, lambda table: table.assign(label=np.where(table.index == 5, 2, 1)), "label", "row 5")


def test_a_text_column_that_is_no_feature_is_refused(tmp_path):
    refused(tmp_path, lambda table: table.assign(colour="red"), "colour")


def test_a_list_column_is_refused(tmp_path):
    refused(tmp_path, lambda table: table.assign(tags=[[1, 2]] * len(table)), "tags")


def test_infinity_is_named_with_its_row(tmp_path):
    refused(tmp_path, with_value("price", 3, np.inf, "float64"), "price", "row 3")


def test_an_empty_file_is_refused(tmp_path):
    refused(tmp_path, lambda table: table.iloc[:0], "no rows")


def test_a_file_that_is_no_parquet_is_refused(tmp_path):
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/interactions.parquet").write_text("user,item")
    with pytest.raises(DataInvalid, match=r"interactions.parquet: not readable"):
        prepare(str(tmp_path / "shop"), into=tmp_path / "data")


def test_an_item_that_stands_twice_is_refused(tmp_path):
    own.write(tmp_path / "shop")
    pd.concat([own.items(), own.items().iloc[[3]]]).to_parquet(tmp_path / "shop/items.parquet")
    with pytest.raises(DataInvalid, match=r"items.parquet: column item_id, row 60"):
        prepare(str(tmp_path / "shop"), into=tmp_path / "data")


def test_a_name_that_is_neither_folder_nor_data_set_lists_the_known_ones(tmp_path):
    with pytest.raises(DataInvalid, match="complete_journey"):
        prepare(str(tmp_path / "nowhere"), into=tmp_path / "data")


def test_a_step_stands_for_the_time(tmp_path):
    table = own.interactions().rename(columns={"ts": "step"})
    table["step"] = np.arange(len(table))
    dataset = prepare(str(own.write(tmp_path / "shop", table)), into=tmp_path / "data")
    assert dataset.schema.time_from_steps
    assert dataset.ts.max() == (len(table) - 1) * 3600
    assert dataset.schema.context == []
