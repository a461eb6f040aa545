"""Candidates attended to some at a time, so that what is gathered for them stays in the processor's cache.

500 candidates that each retrieved 100 behaviours are 13 MB of item vectors, written once and read twice. In a benchmark that
repeats one request the last cache hides that; in a scorer, where other users' data lie in between, one waits for memory.
"""

from store.graph_inputs import AXES, GraphInputs

PART_BYTES = 4 << 20  # of gathered vectors: less costs more runs of the graph, 0.2 ms each


def parts(inputs: GraphInputs, dim: int) -> list[GraphInputs]:
    """The inputs of a request, or of some of its candidates each, in order; `dim`: D, of an item vector.

    Cut are requests in which each candidate has a list of its own: a group is a candidate, and logits are in groups' order.
    """
    row, own = inputs["candidate_row"], inputs.get("retrieved_row")
    if own is None or row.shape[2] > 1 or own.shape[1] != row.shape[1]:
        return [inputs]
    count = -(-own.size * dim * 4 // PART_BYTES)
    size = -(-row.shape[1] // max(count, 1))
    if size >= row.shape[1]:
        return [inputs]
    cut = [name for name in inputs if AXES.get(name, ())[1:2] == ("G",)]
    return [
        inputs | {name: inputs[name][:, first : first + size] for name in cut} for first in range(0, row.shape[1], size)
    ]  # fmt: skip
