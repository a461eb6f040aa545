"""The relevance of pairs against its definition, written out with numpy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export.models.around_kernel import PairOperands
from store.pair_unit import OPERANDS, relevance_of_pairs
from tests.store.processors import answers_of_two_processors


def made(seed, heads=2, candidates=5, behaviours=4, dim=6, units=16, last=8, scale=0.5):
    random = np.random.default_rng(seed)
    shapes = {
        "target": (candidates, dim), "behaviour": (behaviours, dim), "offset": (behaviours, units), "of_target": (dim, units),
        "of_product": (dim, units), "first_gate": (4, units), "second": (units, last), "second_gate": (4, last), "out": (last,),
        "bias": (1,),
    }  # fmt: skip
    return [random.normal(0, scale, (heads, *shapes[name])).astype(np.float32) for name in OPERANDS]


def gated(s, gate):
    factor, summand, shift, slope = (gate[:, row, None, None] for row in range(4))
    return (factor * s + summand) * (0.5 + 0.5 * np.tanh((s + shift) / 2) + slope)


def by_definition(*operands):
    target, behaviour, offset, of_target, of_product, first, second, then, out, bias = (x.astype(np.float64) for x in operands)
    pair = np.einsum("hcd,hkd,hdf->hkcf", target, behaviour, of_product)
    s = pair + np.einsum("hcd,hdf->hcf", target, of_target)[:, None] + offset[:, :, None]
    x = np.einsum("hkcf,hfn->hkcn", gated(s, first), second)
    return np.einsum("hkcn,hn->hkc", gated(x, then), out) + bias[:, :, None]


def summed(*operands):
    """As large as the sums may be on the way: it is these that rounding is relative to."""
    return by_definition(*map(np.abs, operands)).max()


SHAPES = st.fixed_dictionaries({
    "seed": st.integers(0, 99), "heads": st.integers(1, 3), "candidates": st.sampled_from([1, 2, 31, 32, 33, 70]),
    "behaviours": st.integers(1, 9), "dim": st.integers(1, 20), "units": st.sampled_from([16, 32, 80]),
    "last": st.sampled_from([8, 16, 40]), "scale": st.sampled_from([0.05, 0.5]),
})  # fmt: skip


@settings(max_examples=100)
@given(SHAPES)
def test_it_is_the_network_over_every_pair(shape):
    operands = made(**shape)
    expected = by_definition(*operands)
    np.testing.assert_allclose(relevance_of_pairs(*operands), expected, atol=1e-6 * max(1, summed(*operands)))


def test_large_sums_close_and_open_a_gate():
    """sigmoid(-1000 x 10) and sigmoid(1000 x 10): nothing overflows."""
    operands = dict(zip(OPERANDS, made(1, heads=1, behaviours=2), strict=True))
    operands["offset"][:] = np.array([-1e4, 1e4], np.float32)[:, None]
    operands["first_gate"][:] = np.array([0, 1, 0, 0], np.float32)[:, None]  # the sigmoid alone
    found, expected = relevance_of_pairs(*operands.values()), by_definition(*operands.values())
    np.testing.assert_allclose(found, expected, atol=2e-6)
    operands["second"][:] = 0  # of a closed gate nothing passes
    np.testing.assert_allclose(found[:, 0], relevance_of_pairs(*operands.values())[:, 0], atol=1e-6)


@pytest.mark.parametrize(("units", "last"), [(8, 8), (16, 12)])
def test_layers_that_the_kernel_cannot_read_are_refused(units, last):
    with pytest.raises(ValueError, match=f"layers of {units} and {last}: multiples of 16 and of 8 are needed"):
        relevance_of_pairs(*made(2, units=units, last=last))


def test_graphs_and_kernel_name_the_same_operands():
    assert PairOperands._fields == OPERANDS


PORTABLE = """
import sys
import numpy as np
from store.pair_unit import relevance_of_pairs
from tests.store.test_pair_unit import made
np.savez(sys.argv[1], relevance=relevance_of_pairs(*made(7, candidates=40)))
"""


def test_a_processor_without_these_instructions_gives_the_same_answers(tmp_path):
    """Sums may be rounded in other places."""
    own, other = answers_of_two_processors(PORTABLE, tmp_path)
    np.testing.assert_allclose(own["relevance"], other["relevance"], atol=2e-6)
