"""Preparing: rows, buckets, splits; no impression sees its own outcome."""

import json

import numpy as np
import pandas as pd
import pytest

from export.data.complete_journey import TEST_FILE
from export.data.prepare import prepare
from store.types import UNKNOWN
from tests.export.data import own


@pytest.fixture
def shop(tmp_path):
    return prepare(str(own.write(tmp_path / "shop")), into=tmp_path / "data")


def test_rows_are_given_by_first_appearance(shop):
    first_item = str(own.interactions()["item_id"][0])
    assert shop.registry.row_of[first_item] == 2


def test_behaviours_are_ordered_by_user_then_time_then_row(shop):
    for user in range(len(shop.user_ids)):
        history = shop.history(user, 10**10)
        keys = list(zip(history.ts.tolist(), history.row.tolist(), strict=True))
        assert keys == sorted(set(keys))


def test_a_history_ends_strictly_before_the_impression(shop):
    whole = shop.history(0, 10**10)
    cut = int(whole.ts[len(whole) // 2])
    assert shop.history(0, cut).ts.max() < cut


def test_rows_equal_in_user_item_and_time_are_one_behaviour(tmp_path):
    table = own.interactions()
    doubled = pd.concat([table, table.iloc[:100].assign(price=999.0)], ignore_index=True)
    once = prepare(str(own.write(tmp_path / "a", table)), into=tmp_path / "data")
    twice = prepare(str(own.write(tmp_path / "b", doubled)), into=tmp_path / "data")
    assert len(once.row) == len(twice.row)
    assert (once.ts == twice.ts).all()


def test_missing_numbers_get_bucket_zero_and_others_never(shop):
    table = own.interactions()
    assert (shop.cross[:, 0] == 0).mean() == pytest.approx(table["price"].isna().mean(), abs=0.01)


def test_items_seen_once_in_training_share_the_unknown_items_embedding(tmp_path):
    table = own.interactions()
    table.loc[0, "item_id"] = 777  # once, in training
    dataset = prepare(str(own.write(tmp_path / "shop", table, with_items=False)), into=tmp_path / "data")
    row = dataset.registry.row_of["777"]
    assert dataset.items.value[row, 0] == UNKNOWN
    assert dataset.items.value[row, 1] > UNKNOWN, "its category is known all the same"


def test_the_category_of_the_items_file_wins(tmp_path):
    table = own.interactions().assign(category="wrong")
    dataset = prepare(str(own.write(tmp_path / "shop", table)), into=tmp_path / "data")
    assert "wrong" not in dataset.registry.category_names


def test_without_an_items_file_the_newest_rows_category_holds(tmp_path):
    table = own.interactions()
    item = table["item_id"].iloc[-1]
    table.loc[table.index[-1], "category"] = "newest"
    dataset = prepare(str(own.write(tmp_path / "shop", table, with_items=False)), into=tmp_path / "data")
    row = dataset.registry.row_of[str(item)]
    assert dataset.registry.category_names[dataset.registry.category[row] - 2] == "newest"


def test_labelled_rows_are_impressions_and_only_positives_are_behaviours(tmp_path):
    table = own.interactions()
    table["label"] = np.arange(len(table)) % 4 == 0
    table["label"] = table["label"].astype("int64")
    dataset = prepare(str(own.write(tmp_path / "shop", table)), into=tmp_path / "data")
    assert dataset.facts["calibrated"]
    assert len(dataset.row) <= int(table["label"].sum())
    assert dataset.requests["train"].label.mean() == pytest.approx(0.25, abs=0.02)


def test_context_columns_are_encoded_and_a_value_first_seen_later_is_unknown(tmp_path):
    table = own.interactions().assign(context_page="home")
    table.loc[table.index[-1], "context_page"] = "new"
    dataset = prepare(str(own.write(tmp_path / "shop", table)), into=tmp_path / "data")
    assert dataset.schema.context_names == ["hour", "weekday", "page"]
    assert dataset.schema.encode_context({"page": "home"}, 0).tolist() == [2, 5, 2]
    assert dataset.schema.encode_context({"page": "new"}, 0)[2] == UNKNOWN


def test_an_integer_context_with_a_missing_value_is_what_a_request_gives(tmp_path):
    """pandas reads such a column as fractions; requests say 3."""
    table = own.interactions()
    table["context_position"] = np.where(np.arange(len(table)) % 9 == 0, np.nan, np.arange(len(table)) % 5)
    dataset = prepare(str(own.write(tmp_path / "shop", table)), into=tmp_path / "data")
    position = dataset.schema.context[-1]
    assert position.values == ["0", "1", "2", "3", "4"]
    assert position.encode(3) == position.encode(3.0) == position.encode("3") == 5
    column = dataset.schema.context_names.index("position")
    assert set(np.unique(dataset.requests["train"].context[:, column])) == {0, 2, 3, 4, 5, 6}


def test_a_step_beside_the_time_says_nothing(tmp_path):
    table = own.interactions().assign(step="a")
    dataset = prepare(str(own.write(tmp_path / "shop", table)), into=tmp_path / "data")
    assert [feature.name for feature in dataset.schema.cross_features] == ["price"]


def test_clock_context_of_a_row_equals_that_of_a_request(shop):
    requests = shop.requests["test"]
    for r in range(0, len(requests), 7):
        assert requests.context[r].tolist() == shop.schema.encode_context({}, int(requests.at[r])).tolist()


def test_a_second_prepare_reads_what_the_first_left(shop, tmp_path):
    before = (tmp_path / "data/shop/dataset.json").stat().st_mtime_ns
    prepare(str(tmp_path / "shop"), into=tmp_path / "data")
    assert (tmp_path / "data/shop/dataset.json").stat().st_mtime_ns == before


def test_changed_data_is_prepared_again(shop, tmp_path):
    own.write(tmp_path / "shop", own.interactions(seed=1))
    assert prepare(str(tmp_path / "shop"), into=tmp_path / "data").facts["fingerprint"] != shop.facts["fingerprint"]


def test_an_unfinished_folder_is_not_taken_for_a_prepared_one(shop, tmp_path):
    (tmp_path / "data/shop/dataset.json").write_text(json.dumps({"fingerprint": "old"}))
    assert prepare(str(tmp_path / "shop"), into=tmp_path / "data").facts["fingerprint"] == shop.facts["fingerprint"]


def test_the_test_file_of_complete_journey_agrees_with_our_histories(world):
    """`past_behaviours` was counted by whoever made the file: an independent check that nothing leaks."""
    test = pd.read_parquet(TEST_FILE).drop_duplicates(["user_id", "ts"]).sample(300, random_state=0)
    users = {user_id: user for user, user_id in enumerate(world.dataset.user_ids)}
    ours = [len(world.dataset.history(users[str(u)], t)) for u, t in zip(test["user_id"], test["ts"], strict=True)]
    assert np.abs(np.array(ours) - test["past_behaviours"].to_numpy()).max() <= 1  # 14 rows of the data are doubled
