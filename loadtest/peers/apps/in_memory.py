"""What every server here does with a request: a user and candidates -> scores, by the graph of a bundle.

Tables, ids and users are in the memory of the process: nothing is read from a store, nothing searched. A folder has, a model:

    <model>/score.onnx      the bundle's graph          <model>/tables.npz   its item tables, by input name
    <model>/users.npz       <user>/<input> -> what the graph reads of that user, made beforehand
    ids.txt                 the item of row 2, of row 3, ..., a line each
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

FOLDER, PORT, WORKERS = "PEER_FOLDER", "PEER_PORT", "PEER_WORKERS"  # in the environment
UNKNOWN, FIRST_KNOWN = 1, 2  # rows


class InMemoryScorer:
    """Models ready to score."""

    def __init__(self, folder: Path | None = None) -> None:
        """`folder`: None = the one that the environment names."""
        folder = folder or Path(os.environ[FOLDER])
        ids = (folder / "ids.txt").read_text().splitlines()
        self._row = {item_id: row for row, item_id in enumerate(ids, FIRST_KNOWN)}
        self._models = {path.parent.name: _Model(path.parent) for path in folder.glob("*/score.onnx")}

    def score(self, body: dict[str, Any]) -> list[float]:
        """Probabilities of the candidates, in their order.

        Raises:
            KeyError: a user or model that is not there.
        """
        row = np.array([[[self._row.get(item_id, UNKNOWN) for item_id in body["item_ids"]]]], np.int32)  # [1, 1, C]
        scores: list[float] = self._models[body["model"]].score(body["user_id"], row).tolist()
        return scores


class _Model:
    """A graph, its tables bound once, and what it reads of each user."""

    def __init__(self, folder: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # as ours: requests share the cores, not the threads of one
        self._session = onnxruntime.InferenceSession(folder / "score.onnx", options, providers=["CPUExecutionProvider"])
        with np.load(folder / "tables.npz") as tables:
            self._tables = {name: onnxruntime.OrtValue.ortvalue_from_numpy(tables[name]) for name in tables.files}
        self._users: dict[str, dict[str, Any]] = {}
        with np.load(folder / "users.npz") as users:
            for name in users.files:
                user, _, graph_input = name.partition("/")
                self._users.setdefault(user, {})[graph_input] = users[name]

    def score(self, user: str, row: "np.ndarray[Any, np.dtype[np.int32]]") -> "np.ndarray[Any, np.dtype[np.float32]]":
        binding = self._session.io_binding()
        for name, table in self._tables.items():
            binding.bind_ortvalue_input(name, table)
        for name, array in {**self._users[user], "candidate_row": row}.items():
            binding.bind_cpu_input(name, array)
        binding.bind_output("logit", "cpu")
        self._session.run_with_iobinding(binding)
        logit = binding.copy_outputs_to_cpu()[0][0]
        scores: np.ndarray[Any, np.dtype[np.float32]] = 1 / (1 + np.exp(-logit))
        return scores
