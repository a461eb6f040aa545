"""Attention in lists against its definition, written out with numpy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from store.attention import attend, attend_in_lists, numbered
from store.search.exponential import exponential, sigmoid
from store.search.lanes import LANES, load_floats, store
from tests.store.processors import answers_of_two_processors


def made(seed, candidates=5, heads=4, width=16, beside=16, lists=3, k=7, behaviours=20, scale=1.0):
    """Queries, behaviours of a table of items and one of what stands beside them, and lists of any length up to K, some of them
    empty."""
    random = np.random.default_rng(seed)
    size = random.integers(0, k + 1, lists).astype(np.int32)
    index = np.where(np.arange(k) < size[:, None], random.integers(0, behaviours, (lists, k)), 0).astype(np.int32)
    shapes = (heads, candidates, width + beside), (30, width), (12, beside)
    query, item, side = (random.normal(0, scale, shape).astype(np.float32) for shape in shapes)
    row, side_row = (random.integers(0, len(table), behaviours).astype(np.int32) for table in (item, side))
    own = random.integers(0, lists, candidates).astype(np.int32)
    return query, width, made_up(item), row, made_up(side), side_row, index, size, own


def made_up(vectors):
    """As wide as the kernel wants them, by what must not count."""
    return np.pad(vectors, ((0, 0), (0, -vectors.shape[1] % LANES)), constant_values=7)


def valued(asked, seed, width):
    """What `attend` is asked, and a W_v of that width."""
    heads, _, of_query = asked[0].shape
    return *asked, np.random.default_rng(seed).normal(0, 0.3, (heads, of_query, width)).astype(np.float32)


def by_definition(query, dim, item, row, side, side_row, index, size, own, value=None):
    heads, candidates, width = query.shape
    pooled = np.zeros((candidates, heads, width))
    weight = np.zeros((candidates, index.shape[1]))
    for c, one in enumerate(own):
        if size[one]:
            which = index[one, : size[one]]
            chosen = np.hstack([item[row[which], :dim], side[side_row[which], : width - dim]]).astype(np.float64)
            logit = query[:, c].astype(np.float64) @ chosen.T  # [H, K]
            share = np.exp(logit - logit.max(axis=1, keepdims=True))
            share /= share.sum(axis=1, keepdims=True)
            pooled[c], weight[c, : size[one]] = share @ chosen, share.mean(axis=0)
    items, sides = pooled[..., :dim].reshape(candidates, -1), pooled[..., dim:].reshape(candidates, -1)
    given = np.hstack([items, sides]) if value is None else np.einsum("chw,hwv->chv", pooled, value).reshape(candidates, -1)
    return given, pooled[..., :dim].mean(axis=1), weight


SHAPES = st.fixed_dictionaries({
    "seed": st.integers(0, 99), "candidates": st.integers(1, 6), "heads": st.integers(1, 9),
    "width": st.sampled_from([16, 48, 24]), "beside": st.sampled_from([0, 8, 16, 41]),
    "lists": st.integers(1, 4), "behaviours": st.integers(1, 50),
    "k": st.sampled_from([1, 2, 15, 16, 17, 40]), "scale": st.sampled_from([0.01, 1.0, 3.0]),
})  # fmt: skip


@settings(max_examples=300)
@given(SHAPES, st.sampled_from([0, 1, 5, 16, 24, 32]))
def test_it_is_softmax_attention_over_each_candidates_list(shape, value_width):
    asked = made(**shape)
    asked = valued(asked, shape["seed"], value_width) if value_width else asked
    pooled, pooled_item, weight = attend(*asked, weighs=True)
    expected, expected_item, shares = by_definition(*asked)
    np.testing.assert_allclose(pooled, expected, atol=(5e-5 if value_width else 2e-5) * max(shape["scale"], 1))
    np.testing.assert_allclose(pooled_item, expected_item, atol=2e-5 * max(shape["scale"], 1))
    np.testing.assert_allclose(weight, shares, atol=1e-5)


def test_weights_are_given_only_on_demand_and_change_nothing():
    asked = made(1)
    *pooled, weight = attend(*asked)
    assert weight is None
    *same, _ = attend(*asked, weighs=True)
    assert all(map(np.array_equal, pooled, same))


def test_an_empty_list_gives_zeros():
    *vectors, index, size, own = made(2)
    for array in attend(*vectors, index, np.zeros_like(size), own, weighs=True):
        assert not array.any()


def test_without_candidates_there_is_nothing():
    *vectors, index, size, own = made(2, candidates=0)
    pooled, pooled_item, weight = attend(*vectors, index, size, own, weighs=True)
    assert (pooled.shape, pooled_item.shape, weight.shape) == ((0, 4 * 32), (0, 16), (0, 7))


def test_relevances_far_apart_leave_one_behaviour():
    query, item, side = np.full((1, 1, 16), 30, np.float32), np.zeros((3, 16), np.float32), np.empty((3, 0), np.float32)
    item[2] = 30  # relevance 14,400 against 0
    row, lists = np.array([0, 2, 1], np.int32), (np.array([[0, 1, 2]], np.int32), np.full(1, 3, np.int32), np.zeros(1, np.int32))
    pooled, pooled_item, weight = attend(query, 16, item, row, side, np.zeros(3, np.int32), *lists, weighs=True)
    assert np.array_equal(pooled[0], item[2])
    assert np.array_equal(pooled_item[0], item[2])
    assert weight.tolist() == [[0, 1, 0]]


@pytest.mark.parametrize(("of_query", "dim", "beside"), [(36, 16, 20), (20, 20, 0), (48, 16, 16), (24, 16, 8)])
def test_widths_that_the_kernel_cannot_read_are_refused(of_query, dim, beside):
    _, _, _, row, _, side_row, *lists = made(3)
    query, item, side = (
        np.zeros((4, 5, of_query), np.float32),
        np.zeros((30, dim), np.float32),
        np.zeros((20, beside), np.float32),
    )
    said = f"queries of width {of_query} for items of {dim} .* of 16: vectors of {dim} and {beside}"
    with pytest.raises(ValueError, match=said):
        attend(query, dim, item, row, side, side_row, *lists)


@pytest.mark.parametrize(("heads", "width"), [(3, 32), (5, 32), (4, 31), (4, 33)])
def test_values_that_are_not_of_the_queries_are_refused(heads, width):
    with pytest.raises(ValueError, match=f"values of {heads} heads and width {width} for queries of 4 and 32"):
        attend(*made(3), np.zeros((heads, width, 16), np.float32))


@pytest.mark.parametrize("which", [3, 5])
@pytest.mark.parametrize(("wrong", "said"), [(-1, "-1 to"), (30, "to 30 of a table of")])
def test_rows_beyond_the_table_are_refused(which, wrong, said):
    asked = made(3)
    asked[which][7] = wrong
    with pytest.raises(ValueError, match=said):
        attend(*asked)


@pytest.mark.parametrize("own_items", [True, False])
@pytest.mark.parametrize("own_sides", [True, False])
@pytest.mark.parametrize("has_value", [True, False])
def test_the_graphs_around_it_get_what_they_ask_for(own_items, own_sides, has_value):
    query, _, item, row, side, side_row, index, size, own = asked = made(4)
    inputs = {"list_index": index, "list_size": size, "list_of": own, "candidate_row": own}
    inputs |= {"retrieved_row": row[None, None], "retrieved_gap": side_row[None, None]}
    made_before = {"query": query[None, None]}
    made_before |= {"side": side[side_row][None, None]} if own_sides else {"side_of_gap": side}
    made_before |= {"item": item[row][None, None]} if own_items else {}
    asked = valued(asked, 4, 5) if has_value else asked
    made_before |= {"value": asked[-1]} if has_value else {}
    logit, weight = attend_in_lists(
        lambda given: made_before if given is inputs else {},
        lambda given: [
            given["pooled"].sum(axis=(0, 1, 3))[None] + given["pooled_item"].sum(axis=(0, 1, 3)) + given["candidate_row"]
        ],
        inputs,
        np.zeros_like(item) if own_items else item,
    )
    pooled, pooled_item, _ = attend(*asked)
    np.testing.assert_allclose(logit[0], pooled.sum(axis=1) + pooled_item.sum(axis=1) + own, rtol=1e-5)
    assert weight is None


@given(st.integers(0, 99), st.integers(1, 5), st.integers(1, 9), st.integers(0, 40))
def test_numbered_lists_hold_the_same_behaviours(seed, lists, k, length):
    random = np.random.default_rng(seed)
    size = (random.integers(0, k + 1, lists) if length else np.zeros(lists)).astype(np.int32)
    index = np.where(np.arange(k) < size[:, None], random.integers(0, max(length, 1), (lists, k)), 0).astype(np.int32)
    kept, places = numbered(index, size, length)
    real = np.arange(k) < size[:, None]
    assert kept.tolist() == (sorted(set(index[real].tolist())) or [0])
    assert np.array_equal(kept[places][real], index[real])
    assert not places[~real].any()


@njit
def powers(values, out):
    for at in range(0, len(values), LANES):
        store(out, at, exponential(load_floats(values, at)))


def test_powers_of_e_are_right_to_the_last_bits():
    values = np.concatenate([-np.geomspace(1e-9, 87, 99_999), [0.0]]).astype(np.float32)
    found = np.empty_like(values)
    powers(values, found)
    exact = np.exp(values.astype(np.float64))
    assert (np.abs(found - exact) / exact).max() < 2.5e-7
    assert found[-1] == 1
    powers(np.full(16, -1e30, np.float32), found)
    assert not found[:16].any()


@njit
def sigmoids(values, out):
    for at in range(0, len(values), LANES):
        store(out, at, sigmoid(load_floats(values, at)))


def test_sigmoids_are_right_to_the_last_bits():
    values = np.concatenate([-np.geomspace(1e-9, 86, 49_999), [0.0], np.geomspace(1e-9, 1e30, 50_000)]).astype(np.float32)
    found = np.empty_like(values)
    sigmoids(values, found)
    exact = 1 / (1 + np.exp(-values.astype(np.float64)))
    assert (np.abs(found - exact) / exact).max() < 4e-7
    sigmoids(np.full(16, -1e30, np.float32), found)
    assert (found[:16] < 1e-37).all()


PORTABLE = """
import sys
import numpy as np
from store.attention import attend
from tests.store.test_attention import made, valued
asked = made(7, 9, 3, 40, 8, 4, 30, 200, scale=0.5)
pooled, pooled_item, weight = attend(*asked, weighs=True)
projected, _, _ = attend(*valued(asked, 1, 24))
np.savez(sys.argv[1], pooled=pooled, pooled_item=pooled_item, weight=weight, projected=projected)
"""


def test_a_processor_without_these_instructions_gives_the_same_answers(tmp_path):
    """Sums may be rounded in other places."""
    own, other = answers_of_two_processors(PORTABLE, tmp_path)
    for name in ("pooled", "pooled_item", "weight", "projected"):
        np.testing.assert_allclose(own[name], other[name], atol=1e-6)
