"""Answers of a kernel that was compiled for a processor without the newer instructions, beside its own."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


def answers_of_two_processors(code, folder):
    """What `code` saves to sys.argv[1], compiled for this processor and for such a one, and run on this one both times."""
    if os.uname().machine != "x86_64":
        pytest.skip("names of another processor")
    numba = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "+sse4.2,+popcnt", "NUMBA_CACHE_DIR": str(folder)}
    answers = []
    for more in ({}, numba):
        path = folder / f"{len(answers)}.npz"
        subprocess.run([sys.executable, "-c", code, path], cwd=ROOT, check=True, env={**os.environ, **more})
        answers.append(np.load(path))
    return answers
