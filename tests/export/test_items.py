"""New items between trainings: a longer bundle without training."""

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from export.__main__ import app
from export.bundle import make_bundle
from export.data.dataset import ITEMS_FILE, ItemFeatures
from export.data.prepare import prepare
from export.data.source import DataInvalid
from export.items import NewItems, newest_bundles
from export.items import add_items as add_read_items
from export.models import list_models
from export.parity import verify
from export.train import TrainSettings, train
from store.bundle import GRAPH, ITEM_VECTOR
from store.registry import RegistryMismatch, StoredRegistry
from tests.export.data.own import write

NEW = pd.DataFrame(
    {"item_id": ["fresh-1", "1", "fresh-2"], "category": ["c1", "c1", "never seen"], "brand": ["b1", "b1", "no such brand"]}
)


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    write(folder / "shop")
    return prepare(str(folder / "shop"), into=folder / "data")


@pytest.fixture(scope="module", params=["din", "eta", "twin", "sdim"])
def bundle(request, shop, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    run = train(shop, request.param, TrainSettings(requests_a_batch=64), runs=folder / "runs")
    return make_bundle(shop, run, folder / "bundles")


@pytest.fixture
def table(tmp_path):
    def written(items=NEW):
        items.to_parquet(tmp_path / "items.parquet")
        return tmp_path

    return written


def add_items(folder, bundle):
    return add_read_items(NewItems.read(folder, [bundle]), bundle)


def test_every_model_can_be_asked():
    assert {"din", "eta", "twin", "sdim"} <= set(list_models())


def test_new_items_stand_behind_the_known_ones_which_keep_every_bit(bundle, table):
    added = add_items(table(), bundle)
    assert (added.new, added.known) == (2, 1)
    longer, rows = added.bundle, bundle.manifest.item_rows
    assert longer.manifest.item_rows == rows + 2
    assert longer.registry.ids[-2:] == ["fresh-1", "fresh-2"]
    assert longer.registry.ids[:-2] == bundle.registry.ids
    assert longer.registry.registry_id == bundle.registry.registry_id
    for name, old in bundle.tables.items():
        new = longer.tables[name]
        assert new[: len(old)].tobytes() == old.tobytes(), name
        if name not in ("cross_bias",) and not name.startswith("initial_"):
            assert len(new) == rows + 2, name
    assert verify(longer) <= 1e-5


def test_a_vector_is_that_of_what_the_item_shares_with_known_ones(bundle, table):
    """fresh-1 has a known category and brand: all but its id part is as in an item that has both."""
    added = add_items(table(), bundle)
    features = ItemFeatures.load(added.bundle.folder / ITEMS_FILE)
    fresh, known = features.value[-2], features.value[bundle.registry.row_of["1"]]
    assert fresh[0] == 1
    assert fresh[1:].tolist() == known[1:].tolist()
    width = added.bundle.tables[ITEM_VECTOR].shape[1] // len(features.names)  # of a feature but the id
    vectors = added.bundle.tables[ITEM_VECTOR]
    assert (vectors[-2][-width:] == vectors[bundle.registry.row_of["1"]][-width:]).all()
    assert np.isfinite(vectors[-2:]).all()


def test_what_training_has_not_seen_is_unknown_and_counted(bundle, table):
    added = add_items(table(), bundle)
    assert added.unseen == {"category": 1, "brand": 1}
    assert ItemFeatures.load(added.bundle.folder / ITEMS_FILE).value[-1].tolist() == [1, 1, 1]
    assert added.bundle.registry.category_names[-1] == "never seen"


def test_a_version_costs_its_tables_only(bundle, table):
    added = add_items(table(), bundle)
    assert (added.bundle.folder / GRAPH).samefile(bundle.folder / GRAPH)
    assert not (added.bundle.folder / f"{ITEM_VECTOR}.npy").samefile(bundle.folder / f"{ITEM_VECTOR}.npy")


def test_nothing_new_makes_no_version(bundle, table):
    before = sorted(bundle.folder.parent.iterdir())
    assert add_items(table(NEW.iloc[1:2]), bundle) is None
    assert sorted(bundle.folder.parent.iterdir()) == before


def test_items_can_be_added_twice(bundle, table):
    once = add_items(table(), bundle).bundle
    assert newest_bundles(bundle.folder.parent.parent, bundle.manifest.data)[bundle.manifest.model] == once.folder
    twice = add_items(table(pd.DataFrame({"item_id": ["fresh-3"], "category": ["never seen"], "brand": [None]})), once)
    assert twice.bundle.registry.ids[-1] == "fresh-3"
    assert twice.bundle.registry.category[-1] == once.registry.category[-1]


@pytest.mark.parametrize(
    ("items", "why"),
    [
        (NEW.drop(columns="brand"), "column brand is missing"),
        (NEW.drop(columns="item_id"), "column item_id is missing"),
        (pd.concat([NEW, NEW[:1]]), "the item stands twice"),
    ],
)
def test_a_bad_table_is_refused_and_nothing_is_left(bundle, table, items, why):
    before = sorted(bundle.folder.parent.iterdir())
    with pytest.raises(DataInvalid, match=why):
        add_items(table(items), bundle)
    assert sorted(bundle.folder.parent.iterdir()) == before


def test_all_bundles_of_a_data_set_get_the_same_rows(shop, table, tmp_path):
    """One was made anew since the others got items: the rows between are theirs, not new ones."""
    run = train(shop, "mean_pool", TrainSettings(requests_a_batch=64), runs=tmp_path / "runs")
    first = make_bundle(shop, run, tmp_path / "a")
    longer = add_items(table(), first).bundle
    fresh = make_bundle(shop, run, tmp_path / "b")
    more = NewItems.read(table(pd.DataFrame({"item_id": ["fresh-3"], "category": ["c1"], "brand": ["b1"]})), [fresh, longer])
    both = [add_read_items(more, bundle) for bundle in (fresh, longer)]
    assert [added.bundle.registry.ids[-3:] for added in both] == [["fresh-1", "fresh-2", "fresh-3"]] * 2
    for name, table_of in both[0].bundle.tables.items():
        assert table_of.tobytes() == both[1].bundle.tables[name].tobytes(), name
    assert [(added.new, added.known) for added in both] == [(1, 0), (1, 0)]


def test_bundles_that_mean_different_items_by_one_row_are_refused(shop, table, tmp_path):
    run = train(shop, "mean_pool", TrainSettings(requests_a_batch=64), runs=tmp_path / "runs")
    one, other = (make_bundle(shop, run, tmp_path / name) for name in "ab")
    one = add_items(table(), one).bundle
    other = add_items(table(NEW.iloc[::-1]), other).bundle
    with pytest.raises(RegistryMismatch, match="different items by one row"):
        NewItems.read(tmp_path, [one, other])


def test_the_command_gives_the_rows_to_the_store_first(shop, table, tmp_path, redis, store_url):
    run = train(shop, "mean_pool", TrainSettings(requests_a_batch=64), runs=tmp_path / "runs")
    bundle = make_bundle(shop, run, tmp_path / "bundles")
    stored = StoredRegistry(redis, shop.schema.data)
    stored.load(bundle.registry)
    ask = ["items", str(table()), "--data", shop.schema.data, "--bundles", str(tmp_path / "bundles"), "--url", store_url]
    assert CliRunner().invoke(app, ask).exit_code == 0
    assert stored.rows() == bundle.manifest.item_rows + 2
    table(pd.DataFrame({"item_id": ["fresh-3"], "category": ["c1"], "brand": ["b1"]}))
    stored.register(["of somebody else"], ["c1"])  # takes the row
    before = sorted(bundle.folder.parent.iterdir())
    result = CliRunner().invoke(app, ask)
    assert isinstance(result.exception, RegistryMismatch)
    assert sorted(bundle.folder.parent.iterdir()) == before
