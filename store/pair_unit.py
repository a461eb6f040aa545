"""The relevance of every pair of a candidate and a behaviour by a small network, on one core: an activation unit.

    s = q . M_k + o_k          M_k = T + diag(b_k) P          [F], for candidates' vectors q and behaviours' vectors b
    x = gate_1(s) . W                                         [N]
    relevance[k, c] = gate_2(x) . w + bias

    gate(s) = (factor s + summand) (sigmoid(s + shift) + slope)

A graph writes s of all pairs, 8 MB of 500 x 50 x 80, and passes over them for every step of a gate. Here thirty-two candidates at
a time meet a behaviour, and what is between the layers stays in the cache.
Sums are of float32, in an order of their own: results differ from a graph's by rounding.
"""

import numpy as np
from numba import njit

from store.search.exponential import sigmoid
from store.search.lanes import LANES, floats_of, load_float, load_floats, plus, store, times, times_plus
from store.search.tiles import COLUMNS, ROWS, add_product
from store.search.workspace import Workspace, read_only
from store.types import Floats

MADE_WITH = "5be2b280"  # of the files whose kernels it calls: tests/store/search/test_compiled.py

WORKSPACE = Workspace()


OPERANDS = ("target", "behaviour", "offset", "of_target", "of_product", "first_gate", "second", "second_gate", "out", "bias")


def relate_in_pairs(target: Floats, behaviour: Floats, *operands: Floats) -> tuple[Floats, Floats]:
    """`relevance_of_pairs`, and the behaviours that it is of."""
    return relevance_of_pairs(target, behaviour, *operands), behaviour


def relevance_of_pairs(
    target: Floats, behaviour: Floats, offset: Floats, of_target: Floats, of_product: Floats, first_gate: Floats,
    second: Floats, second_gate: Floats, out: Floats, bias: Floats,
) -> Floats:  # fmt: skip
    """Relevance float32 [H, K, C] by H networks of their own, all operands float32.

    Args:
        target: q [H, C, D]; behaviour: b [H, K, D]; offset: o [H, K, F], F a multiple of 16.
        of_target, of_product: T and P [H, D, F]; first_gate: [H, 4, F], its factor, summand, shift and slope.
        second: W [H, F, N], N a multiple of 8; second_gate: [H, 4, N]; out: w [H, N]; bias: [H, 1].

    Cost: 500 x 50 pairs of D = 64, F = 80 and N = 40 about 4 ms.
    """
    heads, candidates, dim = target.shape
    _, units, last = second.shape
    if units % LANES or last % COLUMNS:
        raise ValueError(f"layers of {units} and {last}: multiples of {LANES} and of {COLUMNS} are needed")
    shapes = (dim, -(-candidates // ROWS) * ROWS), (dim, units), (units, ROWS), (last, ROWS), (last,)
    asked, matrix, hidden, final, zeros = WORKSPACE.arrays(*(("f4", shape) for shape in shapes))
    zeros[:] = 0
    relevance = np.empty((heads, behaviour.shape[1], asked.shape[1]), np.float32)
    asked[:, candidates:] = 0
    for h in range(heads):
        asked[:, :candidates] = target[h].T
        operands = behaviour, offset, of_target, of_product, first_gate, second, second_gate, out, bias
        of_head = (read_only(operand[h]) for operand in operands)
        relate_pairs(asked, *of_head, zeros, matrix, hidden, final, relevance[h])
    return relevance[:, :, :candidates]


@njit(cache=True, nogil=True, _nrt=False)
def relate_pairs(
    asked: Floats, behaviour: Floats, offset: Floats, of_target: Floats, of_product: Floats, first_gate: Floats, second: Floats,
    second_gate: Floats, out: Floats, bias: Floats, zeros: Floats, matrix: Floats, hidden: Floats, final: Floats,
    relevance: Floats,
) -> None:  # fmt: skip
    """`relevance_of_pairs` by one network, with arrays to write to; `asked`: targets [D, C], C a multiple of 32."""
    dim, units = matrix.shape
    places = relevance.shape[1]
    for k in range(len(behaviour)):
        for d in range(dim):
            own = floats_of(load_float(behaviour, k * dim + d))
            for j in range(d * units, (d + 1) * units, LANES):
                store(matrix, j, times_plus(own, load_floats(of_product, j), load_floats(of_target, j)))
        for c in range(0, places, ROWS):
            add_product(offset, k * units, asked, c, matrix, hidden)
            gate(hidden, first_gate)
            add_product(zeros, 0, hidden, 0, second, final)
            gate(final, second_gate)
            for half in range(0, ROWS, LANES):
                total = floats_of(load_float(bias, 0))
                for j in range(len(out)):
                    total = times_plus(floats_of(load_float(out, j)), load_floats(final, j * ROWS + half), total)
                store(relevance, k * places + c + half, total)


@njit(cache=True, nogil=True, _nrt=False)
def gate(sums: Floats, constants: Floats) -> None:
    """(factor s + summand) (sigmoid(s + shift) + slope) of rows s float32 [F, 32], in their place."""
    units = len(sums)
    for j in range(units):
        factor, summand = floats_of(load_float(constants, j)), floats_of(load_float(constants, units + j))
        shift, slope = floats_of(load_float(constants, 2 * units + j)), floats_of(load_float(constants, 3 * units + j))
        for half in range(j * ROWS, (j + 1) * ROWS, LANES):
            s = load_floats(sums, half)
            store(sums, half, times(times_plus(factor, s, summand), plus(sigmoid(plus(s, shift)), slope)))
