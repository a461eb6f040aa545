"""Published tables through a cache give the scores of the bundle's own: every model, real users, and a cache that must evict."""

import numpy as np
import pytest

from export.models import list_models
from service.behaviours import StoreReader
from service.bundles import Bundles
from service.loading import Loading
from service.metrics import Metrics, StageTimer
from service.pipeline import Scorer, score
from service.request import ScoreRequest
from store.bundle import Bundle
from store.connection import connect
from store.table_values import BLOCK_BYTES
from tests.service.published import alone, counted, forget, published, reading

TOLERANCE = 1e-6
SMALL = 40 * BLOCK_BYTES  # of about a thousand blocks a table


@pytest.fixture(scope="module")
def bodies(world):
    """Requests of users with the longest and the shortest lives, an unknown user, an unknown item, and one in the past."""
    dataset = world.dataset
    by_life = np.argsort(np.diff(dataset.user_start), kind="stable")
    users = [dataset.user_ids[user] for user in (*by_life[:1], *by_life[-2:])]
    random = np.random.default_rng(3)
    ids = [dataset.registry.ids[i] for i in random.choice(len(dataset.registry.ids), 60, replace=False)]
    now, past = int(dataset.ts.max()) + 3600, int(np.quantile(dataset.ts, 0.5))
    return [{"user_id": user, "item_ids": [*ids, "no such item"], "at": at} for user in (*users, "nobody") for at in (now, past)]


@pytest.mark.parametrize("model", list_models())
def test_scores_are_those_of_the_mapped_tables(world, bodies, model, tmp_path):
    bundles, folder = alone(world, model, tmp_path)
    client = connect(world.store_url, 5)
    mapped_bundles = Bundles(bundles, "", "", Loading("cpu", 1), Metrics())
    mapped = Scorer(mapped_bundles, StoreReader(client, Metrics()))
    try:
        version = published(world.store_url, Bundle(folder)).published.version
        with reading(bundles, world.store_url, SMALL) as (stored, _, metrics):
            assert stored.bundles.get(model).tables.version == version
            for body in bodies:
                request = ScoreRequest.model_validate(body | {"model": model, "explain": 3})
                one, other = (score(request, scorer, StageTimer()) for scorer in (mapped, stored))
                assert (one.degraded, other.degraded) == ([], [])
                assert (one.behaviours, one.unknown_items) == (other.behaviours, other.unknown_items)
                assert np.abs(one.scores - other.scores).max() <= TOLERANCE
                assert_explained_alike(one.explanations, other.explanations)
            assert counted(metrics, "ctr_table_cache_misses_total") > 0
            assert 0 < counted(metrics, "ctr_table_cache_bytes") <= SMALL
    finally:
        forget(client, mapped_bundles.data)
        client.close()


def assert_explained_alike(one, other):
    """The same items, by their own ids; weights to the last digits."""
    if one is None:
        assert other is None
        return
    for ours, theirs in zip(one, other, strict=True):
        assert [(entry["item_id"], entry["ts"]) for entry in ours] == [(entry["item_id"], entry["ts"]) for entry in theirs]
        np.testing.assert_allclose([e["weight"] for e in ours], [e["weight"] for e in theirs], atol=TOLERANCE)
