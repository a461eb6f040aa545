"""python -m loadtest.peers.forward_tiled FOLDER THREADS: the plainly exported graph over one user repeated for every candidate.

onnxruntime as one gets it, but for the number of threads. The user is repeated before the first turn.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from loadtest.peers.turns import answer_turns

GRAPH, FEED = "tiled.onnx", "tiled.npz"
ITEM_VECTOR, CANDIDATE_ROW = "item_vector", "candidate_row"


def feed(folder: Path) -> dict[str, NDArray[Any]]:
    """The inputs of a tiled graph by name, the user's [1, ...] repeated for every candidate."""
    with np.load(folder / FEED) as arrays:
        candidates = arrays[CANDIDATE_ROW]
        fixed = {ITEM_VECTOR: arrays[ITEM_VECTOR], CANDIDATE_ROW: candidates.reshape(-1, 1, 1)}
        return fixed | {name: np.repeat(arrays[name], len(candidates), axis=0) for name in arrays.files if name not in fixed}


def main(folder: Path, threads: int) -> None:
    """Answer turns until stdin ends."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(folder / GRAPH, options, providers=["CPUExecutionProvider"])
    inputs = feed(folder)
    answer_turns(lambda: session.run(["logit"], inputs))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
