from pathlib import Path

from store import clusters, id_index, leaf_order, memory, pair_unit, target_row
from store.kernels import compile_all

ROOT = Path(__file__).parents[2]


def test_every_kind_of_kernel_is_called():
    """One of each file that a request or a keeper calls; the container's own count is looked at by make stack-test."""
    compile_all()
    assert all(
        kernel.signatures
        for kernel in (
            id_index.fill,
            id_index.look_up,
            leaf_order._number,
            clusters.split,
            memory.write_each,
            pair_unit.relate_pairs,
            target_row.attend_each_row,
        )
    )


def test_the_image_is_built_with_them():
    assert "NUMBA_CACHE_DIR=/app/numba python -m store.kernels" in (ROOT / "Dockerfile").read_text()
