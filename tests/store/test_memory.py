"""The kernel that writes a memory, against the equations in float64; against torch: tests/export/models/test_mimn.py."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store.memory import STATE, WEIGHTS, MemoryWriter, shapes_of

ITEMS = 30


def made(d, c, m, induced=1, scale=0.4, seed=0):
    """Weights, the empty state with something in the memory, items."""
    random = np.random.default_rng(seed)

    def drawn(*shape):
        return (random.normal(size=shape) * scale).astype(np.float32)

    weights = {name: drawn(*shape) for name, shape in shapes_of(d, c, m).items()}
    shapes = {"memory": (m, d), "induction": (m, d), "control": (c,), "read": (d,), "usage": (m,)}
    state = {name: np.zeros((1, *shape), np.float32) for name, shape in shapes.items()} | {"memory": drawn(1, m, d)}
    return weights | {"induced": np.array(induced), "edge": np.array(0.1, np.float32)}, state, drawn(ITEMS, d)


def run(weights, state, items, rows):
    feed = state | {"behaviour_row": np.asarray(rows, np.int32)[None, None]}
    return dict(zip(state, MemoryWriter(weights).run(feed, items), strict=True))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    power = np.exp(x - x.max(axis=-1, keepdims=True))
    return power / power.sum(axis=-1, keepdims=True)


def onwards(seen, told, hidden):
    """A GRU's step."""
    width = len(hidden)
    gate = sigmoid(seen[: 2 * width] + told[: 2 * width])
    new = np.tanh(seen[2 * width :] + gate[:width] * told[2 * width :])
    return (1 - gate[width:]) * new + gate[width:] * hidden


def by_hand(weights, state, items, rows):
    """The same in float64, slot by slot."""
    w = {name: np.asarray(weights[name], np.float64) for name in WEIGHTS}
    memory, induction, control, read, usage = (state[name][0].astype(np.float64) for name in STATE)
    d, c, m = len(read), len(control), len(usage)

    def told(vector, matrix):
        return vector @ matrix[:-1] + matrix[-1]

    def pointed(key, strength):
        cosine = memory @ key / np.linalg.norm(memory, axis=1) / np.linalg.norm(key)
        return softmax((1 + np.log1p(np.exp(strength))) * cosine)

    for row in rows:
        known = told(items[row], w["of_behaviour"])
        control = onwards(known[: 3 * c] + read @ w["of_read"], told(control, w["of_past"]), control)
        heads = told(control, w["of_control"])
        read_weight, write_weight = (pointed(np.tanh(heads[i * d : (i + 1) * d]), heads[4 * d + i]) for i in range(2))
        read = read_weight @ memory
        moved = softmax(told(usage / max(usage.sum(), 1), w["of_use"]).reshape(m, m))
        write = (write_weight @ moved)[:, None]
        erased, added = sigmoid(heads[2 * d : 3 * d]), np.tanh(heads[3 * d : 4 * d])
        memory, usage = memory + write * (added - erased * memory), usage + write[:, 0]
        inside, outside = np.sort(read_weight)[::-1][int(w["induced"]) - 1 :][:2]
        share = np.clip(0.5 + (read_weight - (inside + outside) / 2) / w["edge"], 0, 1)
        for i in range(m):
            after = onwards(known[3 * c :] + memory[i] @ w["of_slot"], told(induction[i], w["of_channel"]), induction[i])
            induction[i] += share[i] * (after - induction[i])
    return dict(zip(STATE, (memory, induction, control, read, usage), strict=True))


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([(16, 16, 8, 1), (13, 5, 3, 2), (64, 64, 8, 1), (4, 18, 2, 1)]), st.integers(0, 9),
    st.sampled_from([0.02, 0.4, 4.0]), st.integers(0, 1000),
)  # fmt: skip
def test_it_is_the_equations(sizes, count, scale, seed):
    weights, state, items = made(*sizes, scale=scale, seed=seed)
    rows = np.random.default_rng(seed).integers(0, ITEMS, count)
    found, expected = run(weights, state, items, rows), by_hand(weights, state, items, rows)
    for name in STATE:
        assert found[name].dtype == np.float32
        np.testing.assert_allclose(found[name][0], expected[name], atol=2e-4 * max(scale, 1), rtol=1e-4, err_msg=name)


def test_a_life_may_be_written_in_parts_and_what_was_given_stays_as_it_was():
    weights, state, items = made(16, 16, 8)
    given_ = {name: array.copy() for name, array in state.items()}
    whole = run(weights, state, items, [3, 5, 7, 9, 3])
    parts = run(weights, run(weights, state, items, [3, 5]), items, [7, 9, 3])
    for name in STATE:
        assert (whole[name] == parts[name]).all()
        assert (state[name] == given_[name]).all()
    assert not np.allclose(whole["read"], run(weights, state, items, [9, 3, 7, 5, 3])["read"], atol=1e-4)  # order counts


def test_the_order_of_the_state_is_the_callers():
    weights, state, items = made(16, 16, 8)
    backwards = dict(reversed(state.items()))
    found, expected = run(weights, backwards, items, [3, 5]), run(weights, state, items, [3, 5])
    assert all((found[name] == expected[name]).all() for name in STATE)


def test_numbers_far_from_zero_do_no_harm():
    weights, state, items = made(16, 16, 8, scale=60.0)
    for array in run(weights, state, items, [3, 5, 7]).values():
        assert np.isfinite(array).all()


@pytest.mark.parametrize("name", [name for name in WEIGHTS if name.startswith("of_")])
def test_weights_that_do_not_fit_are_refused(name):
    weights, _, _ = made(16, 12, 8)
    with pytest.raises(ValueError, match="do not fit"):
        MemoryWriter(weights | {name: weights[name][:-1]})


@pytest.mark.parametrize("name", ["item_vector", *STATE])
def test_items_or_a_state_of_another_width_are_refused(name):
    weights, state, items = made(16, 12, 8)
    if name == "item_vector":
        items = items[:, :-1]
    else:
        state |= {name: state[name][..., :-1]}
    with pytest.raises(ValueError, match="the weights are for 16 and"):
        run(weights, state, items, [3])


@pytest.mark.parametrize("induced", [0, 8])
def test_there_are_slots_that_are_not_followed_and_such_that_are(induced):
    weights, _, _ = made(16, 12, 8, induced)
    with pytest.raises(ValueError, match=f"{induced} of 8 slots induced"):
        MemoryWriter(weights)
