"""What makes TWIN-V2 that model: clusters in place of behaviours, and ln n for a cluster of n."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from store.clusters import GROUPS, ITERATIONS, LARGEST, clusters, completion_of, split
from store.schema import CrossFeature, Schema
from tests.export.models.synthetic import ITEMS, Small, behaviours, many


def of_size(life, sizes):
    return replace(life, size=np.asarray(sizes, np.int32))


def test_without_clusters_it_is_twin():
    """All n = 1: the same parameters give TWIN's scores, through search and attention."""
    twin, clustered = Small.of("twin"), Small.of("twin_v2")
    clustered.model.load_state_dict(twin.model.state_dict())
    clustered.vectors = twin.vectors
    for life in (many(0), many(1), many(300), of_size(many(300), np.ones(300))):
        assert np.allclose(clustered.logits([5, 9, 33], life), twin.logits([5, 9, 33], life), atol=1e-6)


def test_a_cluster_of_n_equal_behaviours_is_n_copies_of_one():
    """Same item, same features, same gap: attention as to n of them side by side."""
    small = Small.of("twin_v2", recent=0)
    apart = behaviours([7, 9, 9, 9, 9, 12], gap_s=0)
    apart.cross[:] = 2
    together = of_size(behaviours([7, 9, 12], gap_s=0), [1, 4, 1])
    together.cross[:] = 2
    assert np.allclose(small.logits([5, 9], together), small.logits([5, 9], apart), atol=1e-5)
    assert not np.allclose(small.logits([5, 9], behaviours([7, 9, 12], gap_s=0)), small.logits([5, 9], apart), atol=1e-4)


def test_search_prefers_the_larger_of_two_clusters_alike():
    small = Small.of("twin_v2", k=1, heads=1)
    life = behaviours([9, 9, 9], gap_s=0)
    life.cross[:] = 1
    retrieved, inputs = small.search([5], of_size(life, [1, 7, 1]))
    assert retrieved.index.tolist() == [[1]]
    assert inputs["retrieved_size"].tolist() == [[[7]]]


def test_ln_n_stands_in_every_head():
    small = Small.of("twin_v2")
    life = of_size(many(5), [1, 2, 3, 4, 5])
    _, inputs = small.search([5], life)
    arrays = {name: torch.from_numpy(inputs[name]) for name in small.model.input_names}
    with torch.inference_mode():
        user = small.model.user(small.vectors, arrays)
        query = small.model.queries(small.vectors[None, None, :1])[0, 0, :, 0]  # [H, W]
        behaviour = torch.cat([user.item, small.model.side(user)], dim=-1)[0, 0]  # [K, W]
        with_size, without = query @ behaviour.T, query[:, :-1] @ behaviour[:, :-1].T
    assert np.allclose((with_size - without).numpy(), np.log([1, 2, 3, 4, 5]) * np.ones((4, 1)), atol=1e-5)


def test_padding_has_size_0_and_no_weight():
    small = Small.of("twin_v2")
    _, inputs = small.search([5], many(0))
    assert inputs["retrieved_size"].tolist() == [[[0]]]
    assert np.isfinite(small.logits([5], many(0))).all()


@pytest.fixture(scope="module")
def vectors():
    return Small.of("twin_v2").vectors.numpy()


def schema(feature):
    return Schema(data="d", cross_features=[CrossFeature(name=feature, edges=[1.0, 2.0])], context=[])


def test_behaviours_are_grouped_by_completion_where_there_is_such_a_feature(vectors):
    """Left off and seen through, half of each, of the same items: a mixed cluster would show a bucket in between."""
    life = many(400)
    life.cross[:, 0] = np.where(np.random.default_rng(0).random(400) < 0.5, 1, 3)
    grouped = clusters(life, vectors, completion_of(schema("completion")))
    whole = [int(grouped.size[grouped.cross[:, 0] == bucket].sum()) for bucket in (1, 3)]
    assert whole == [int((life.cross == bucket).sum()) for bucket in (1, 3)]
    assert GROUPS == 5
    together = clusters(life, vectors, completion_of(schema("price")))
    assert (together.cross == 2).any()
    assert len(clusters(life.select(slice(0, 20)), vectors, completion_of(schema("price")))) == 1


def test_clusters_are_split_again_until_none_is_larger_than_gamma(vectors):
    assert LARGEST == 20
    for length in (21, 100, 400, 3000):
        sizes = clusters(many(length), vectors, None).size
        assert sizes.sum() == length
        assert 1 <= sizes.min() <= sizes.max() <= 20
        assert len(sizes) >= 2


@pytest.mark.parametrize(("length", "parts"), [(21, 2), (38, 2), (39, 3), (101, 3), (102, 4), (213, 4), (214, 5)])
def test_a_group_is_split_into_the_floor_of_its_size_to_the_power_of_three_tenths(vectors, length, parts):
    row = np.sort(np.arange(length) % (ITEMS - 2)) + 2  # the first centres are different items
    once = split(vectors[row], np.zeros(length, np.int32), length - 1, ITERATIONS)  # no part is split again
    assert len(set(once.tolist())) == parts


def test_the_member_nearest_to_the_centre_stands_for_a_cluster(vectors):
    life = behaviours(np.random.default_rng(3).permutation(ITEMS - 2) + 2)
    label = split(vectors[life.row], np.zeros(len(life), np.int32), LARGEST, ITERATIONS)
    expected = []
    for own in range(label.max() + 1):
        member = life.row[label == own]
        distance = np.linalg.norm(vectors[member] - vectors[member].mean(axis=0), axis=1)
        expected.append(int(member[distance.argmin()]))
    assert sorted(clusters(life, vectors, None).row.tolist()) == sorted(expected)
    assert len(expected) > 1
