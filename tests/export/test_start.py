"""Continuing from earlier weights: rows go over by what they stand for."""

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from export.bundle import make_bundle
from export.data.prepare import prepare
from export.models import build
from export.run import TrainingFailed, TrainSettings, data_shape
from export.start import Start
from export.train import train
from store.gaps import BUCKETS
from tests.export.data import own

SETTINGS = TrainSettings(days=5, requests_a_batch=64)
RARE, NEW, MOVED = 5, [60, 61, 62], 8  # items: seen once in the old data, never in it, of another brand since


def interactions(grown: bool) -> pd.DataFrame:
    """Own data with a context; the grown one has later rows of a rare item, of new items, and of new context values."""
    old = own.interactions()
    old = old[old.item_id != RARE].copy()
    old["context_page"] = np.where(old.item_id % 2, "b", "d")
    rare = old.iloc[[100]].assign(item_id=RARE)
    old = pd.concat([old, rare], ignore_index=True)
    if not grown:
        return old
    later = old.iloc[-1500:].assign(ts=old.ts.max() + np.arange(1, 1501), context_page=["a", "b", "c"] * 500)
    later["item_id"] = np.random.default_rng(0).choice([RARE, *NEW, *range(10, 20)], 1500)
    later["price"] = later.price * 3
    beyond = later.assign(ts=later.ts + 5000)  # so that the rows above are training rows
    return pd.concat([old, later, beyond], ignore_index=True)


def items(grown: bool) -> pd.DataFrame:
    old = own.items()
    if grown:
        old.loc[MOVED, "brand"] = "b1"
    new = pd.DataFrame({"item_id": NEW, "category": ["c1", "c2", "c9"], "brand": ["a0", "b1", None]})
    return pd.concat([old, new], ignore_index=True) if grown else old


def write(folder, grown: bool, **columns):
    own.write(folder, interactions(grown), with_items=False)
    items(grown).assign(**columns).to_parquet(folder / "items.parquet")
    return folder


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("grown")
    old = prepare(str(write(folder / "old", False)), "shop", into=folder / "data_old")
    grown = prepare(str(write(folder / "new", True)), "shop", into=folder / "data_new")
    return folder, old, grown, train(old, "twin", SETTINGS, runs=folder / "runs")


@pytest.fixture(scope="module")
def carried(world):
    """The old weights, those of a model of the grown data that they were carried over to, and what was new."""
    _, _, grown, run = world
    model = build("twin", data_shape(grown))
    new = Start.open(run.folder).carry_over(grown, "twin", model)
    return run.model.state_dict(), model.state_dict(), new


def value(dataset, item: int, feature: str) -> int:
    return int(dataset.items.value[dataset.registry.row_of[str(item)], dataset.items.names.index(feature)])


@pytest.mark.parametrize("feature", ["item", "category", "brand"])
def test_an_item_keeps_its_vectors_whatever_their_rows_are_now(world, carried, feature):
    _, old, grown, _ = world
    before, after, _ = carried
    table = f"items.tables.{old.items.names.index(feature)}.weight"
    known = [int(item) for item in old.registry.ids if int(item) not in (RARE, MOVED)]
    pairs = np.array([(value(old, item, feature), value(grown, item, feature)) for item in known])
    assert torch.equal(before[table][pairs[:, 0]], after[table][pairs[:, 1]])
    if feature != "category":
        assert (pairs[:, 0] != pairs[:, 1]).any()  # numbers have moved, or this would show nothing


def test_what_is_new_starts_as_the_unknown_value(world, carried):
    _, old, grown, _ = world
    before, after, new = carried
    assert new == {"item": 4, "category": 1, "brand": 1}
    unknown = before["items.tables.0.weight"][1]
    for item in (RARE, *NEW):
        assert value(grown, item, "item") > 1
        assert torch.equal(after["items.tables.0.weight"][value(grown, item, "item")], unknown)
    assert value(old, RARE, "item") == 1
    assert torch.equal(after["items.tables.2.weight"][value(grown, 60, "brand")], before["items.tables.2.weight"][1])
    assert torch.equal(after["items.tables.1.weight"][value(grown, 62, "category")], before["items.tables.1.weight"][1])
    assert (after["items.tables.0.weight"][0] == 0).all()


def test_context_values_go_by_name(world, carried):
    _, old, grown, _ = world
    before, after, _ = carried
    assert [dataset.schema.context[-1].values for dataset in (old, grown)] == [["b", "d"], ["a", "b", "c", "d"]]
    first = sum(feature.size for feature in old.schema.context[:-1])
    assert torch.equal(before["context.table.weight"][:first], after["context.table.weight"][:first])
    pages = before["context.table.weight"][first:]  # absent, unknown, b, d
    assert torch.equal(after["context.table.weight"][first:], pages[[0, 1, 1, 2, 1, 3]])


def test_a_bucket_goes_by_the_numbers_in_it(world, carried):
    _, old, grown, _ = world
    before, after, _ = carried
    there, here = old.schema.cross_features[0], grown.schema.cross_features[0]
    assert here.edges[-1] > there.edges[-1]
    gap_and_missing = BUCKETS + 1
    assert torch.equal(before["cross.table.weight"][:gap_and_missing], after["cross.table.weight"][:gap_and_missing])
    prices = np.linspace(0, 300, 1000)
    narrow = np.isin(here.encode(prices), [1, here.buckets - 1])  # open at one side: below and above all old edges
    for price in prices[narrow & ((prices < there.edges[0]) | (prices > there.edges[-1]))]:
        old_row, new_row = (BUCKETS + int(feature.encode(np.array([price]))[0]) for feature in (there, here))
        assert torch.equal(before["cross.table.weight"][old_row], after["cross.table.weight"][new_row])
    middle = (here.edges[3] + here.edges[4]) / 2
    old_row, new_row = (BUCKETS + int(feature.encode(np.array([middle]))[0]) for feature in (there, here))
    assert torch.equal(before["cross.table.weight"][old_row], after["cross.table.weight"][new_row])


def test_training_continues_and_says_from_where(world, tmp_path):
    _, _, grown, run = world
    start = Start.open(run.folder)
    on = train(grown, "twin", SETTINGS, runs=tmp_path, start=start)
    assert on.facts["started_from"] == {
        "folder": str(run.folder),
        "weights": start.digest,
        "new_values": {"item": 4, "category": 1, "brand": 1},
    }
    assert train(grown, "twin", SETTINGS, runs=tmp_path).facts["loss"] > on.facts["loss"]


def test_a_bundle_is_as_good_as_its_run(world, tmp_path):
    _, old, grown, run = world
    bundle = make_bundle(old, run, tmp_path)
    from_bundle, from_run = Start.open(bundle.folder), Start.open(run.folder)
    models = [build("twin", data_shape(grown)) for _ in range(2)]
    assert from_bundle.carry_over(grown, "twin", models[0]) == from_run.carry_over(grown, "twin", models[1])
    weights, others = (model.state_dict() for model in models)
    assert all(torch.equal(value, others[name]) for name, value in weights.items())
    assert from_bundle.config == from_run.config


def test_the_config_of_the_earlier_model_goes_on(world, tmp_path):
    _, old, grown, _ = world
    small = train(old, "twin", SETTINGS, runs=tmp_path, k=7, dim=32)
    on = train(grown, "twin", SETTINGS, runs=tmp_path, start=Start.open(small.folder))
    assert (on.model.config.k, on.model.config.dim) == (7, 32)
    with pytest.raises(TrainingFailed, match=r"items\.tables\.0\.weight has shape \[.*\], now \[.*\]"):
        train(grown, "twin", SETTINGS, runs=tmp_path, start=Start.open(small.folder), dim=16)


def test_weights_that_do_not_fit_are_refused_with_both_sides_named(world, tmp_path):
    folder, old, grown, run = world
    start = Start.open(run.folder)
    with pytest.raises(TrainingFailed, match="weights of model twin, not of eta"):
        train(grown, "eta", SETTINGS, runs=tmp_path, start=start)
    other = prepare(str(folder / "new"), "other", into=tmp_path / "data")
    with pytest.raises(TrainingFailed, match="weights of data set shop, not of other"):
        train(other, "twin", SETTINGS, runs=tmp_path, start=start)
    with_colour = prepare(str(write(tmp_path / "colour", True, colour="red")), "shop", into=tmp_path / "data")
    with pytest.raises(TrainingFailed, match=r"3 item features \(item, category, brand\), now 4 \(item, .*, colour\)"):
        train(with_colour, "twin", SETTINGS, runs=tmp_path, start=start)
    grown_run = train(grown, "twin", SETTINGS, runs=tmp_path)
    with pytest.raises(TrainingFailed, match="65 values of item, shop has 61: data only grows"):
        train(old, "twin", SETTINGS, runs=tmp_path, start=Start.open(grown_run.folder))
    fewer = replace(start, weights={name: value for name, value in start.weights.items() if name != "head.layers.0.bias"})
    with pytest.raises(TrainingFailed, match=r"no parameter head\.layers\.0\.bias"):
        train(grown, "twin", SETTINGS, runs=tmp_path, start=fewer)


def test_a_folder_that_is_neither_names_what_is_missing(world, tmp_path):
    with pytest.raises(TrainingFailed, match=r"run\.json: missing"):
        Start.open(tmp_path)
    shutil.copytree(world[3].folder, tmp_path / "old_run")
    (tmp_path / "old_run/items.npz").unlink()
    with pytest.raises(TrainingFailed, match=r"items\.npz: missing"):
        Start.open(tmp_path / "old_run")
