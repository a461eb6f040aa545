"""The target's row of self-attention against its definition, written out with numpy."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from store.target_row import OPERANDS, attend_with_itself
from tests.store.processors import answers_of_two_processors


def made(seed, heads=2, width=3, candidates=5, behaviours=4, scale=1.0):
    """Operands; every third behaviour is padding."""
    random = np.random.default_rng(seed)
    own, user = (heads, width, candidates), (behaviours, heads, width)
    arrays = [random.normal(0, scale, shape).astype(np.float32) for shape in ((3, *own), user, user)]
    return [*arrays, np.where(np.arange(behaviours) % 3 == 2, -1e9, 0).astype(np.float32)]


def by_definition(*operands):
    (query, own_key, own_value), key, value, below = (x.astype(np.float64) for x in operands)
    relevance = np.einsum("hdc,khd->hck", query, key) + below
    relevance = np.concatenate([relevance, (query * own_key).sum(axis=1)[..., None]], axis=-1)
    share = np.exp(relevance - relevance.max(axis=-1, keepdims=True))
    share /= share.sum(axis=-1, keepdims=True)
    pooled = np.einsum("hck,khd->hdc", share[..., :-1], value) + share[:, None, :, -1] * own_value
    return pooled, share[..., :-1].mean(axis=0).T


SHAPES = st.fixed_dictionaries({
    "seed": st.integers(0, 99), "heads": st.integers(1, 9), "width": st.integers(1, 12),
    "candidates": st.sampled_from([1, 2, 15, 16, 17, 40]), "behaviours": st.integers(1, 30),
    "scale": st.sampled_from([0.01, 1.0, 3.0]),
})  # fmt: skip


@settings(max_examples=150)
@given(SHAPES)
def test_it_is_softmax_attention_over_the_behaviours_and_itself(shape):
    operands = made(**shape)
    pooled, mean = attend_with_itself(*operands)
    expected, expected_mean = by_definition(*operands)
    np.testing.assert_allclose(pooled, expected, atol=2e-5 * max(shape["scale"], 1))
    np.testing.assert_allclose(mean, expected_mean, atol=1e-5)


def test_without_any_behaviour_it_attends_to_itself():
    operands = dict(zip(OPERANDS, made(1), strict=True))
    operands["below"][:] = -1e9
    pooled, mean = attend_with_itself(*operands.values())
    assert np.array_equal(pooled, operands["of_target"][2])
    assert not mean.any()


PORTABLE = """
import sys
import numpy as np
from store.target_row import attend_with_itself
from tests.store.test_target_row import made
pooled, mean = attend_with_itself(*made(7, 8, 9, 40, 50))
np.savez(sys.argv[1], pooled=pooled, mean=mean)
"""


def test_a_processor_without_these_instructions_gives_the_same_answers(tmp_path):
    """Sums may be rounded in other places."""
    own, other = answers_of_two_processors(PORTABLE, tmp_path)
    for name in ("pooled", "mean"):
        np.testing.assert_allclose(own[name], other[name], atol=2e-6)
