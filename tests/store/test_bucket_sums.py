"""Bucket sums against their definition, written out with numpy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store.bucket_sums import add_to_sums, read_sums
from tests.store.processors import answers_of_two_processors

ITEMS = 30


def made(seed, signatures=16, buckets=8, width=64, candidates=40):
    """Buckets of items, candidates, sums of which every fifth is empty, vectors of items."""
    random = np.random.default_rng(seed)
    sums = random.normal(size=(1, signatures, buckets, width)).astype(np.float32)
    sums.reshape(-1, width)[::5] = 0
    return (
        random.integers(0, buckets, (ITEMS, signatures)).astype(np.int32),
        random.integers(0, ITEMS, (1, 1, candidates)).astype(np.int32),
        sums,
        random.normal(size=(ITEMS, width)).astype(np.float32),
    )


SHAPES = st.fixed_dictionaries({
    "seed": st.integers(0, 99), "signatures": st.integers(1, 20), "buckets": st.sampled_from([2, 8, 64]),
    "width": st.sampled_from([1, 8, 15, 16, 17, 64]), "candidates": st.sampled_from([1, 2, 9, 40]),
})  # fmt: skip


@settings(max_examples=100)
@given(SHAPES)
def test_a_candidate_reads_the_mean_of_its_buckets_each_at_length_one(shape):
    bucket, row, sums, _ = made(**shape)
    length = np.linalg.norm(sums[0].astype(np.float64), axis=-1, keepdims=True)
    unit = np.divide(sums[0], length, where=length > 0, out=np.zeros(sums[0].shape))
    expected = unit[np.arange(shape["signatures"]), bucket[row[0, 0]]].mean(axis=1)
    (found,) = read_sums(bucket, row, sums)
    assert found.dtype == np.float32
    assert found.shape == (1, 1, shape["candidates"], shape["width"])
    np.testing.assert_allclose(found[0, 0], expected, atol=1e-6)


@settings(max_examples=60)
@given(SHAPES, st.integers(0, 50))
def test_a_behaviour_adds_its_vector_to_one_bucket_of_each_signature(shape, length):
    bucket, _, sums, item = made(**shape)
    row = np.random.default_rng(length).integers(0, ITEMS, (1, 1, length)).astype(np.int32)
    expected, before = sums[0].copy(), sums.copy()
    for behaviour in row[0, 0]:
        for g in range(shape["signatures"]):
            expected[g, bucket[behaviour, g]] += item[behaviour]
    (found,) = add_to_sums({"bucket_sum": sums, "behaviour_row": row}, bucket, item)
    assert np.array_equal(found[0], expected)
    assert np.array_equal(sums, before)


def test_the_empty_user_gives_zeros():
    bucket, row, sums, _ = made(1)
    assert not read_sums(bucket, row, sums * 0)[0].any()


@pytest.mark.parametrize("wrong", [-1, 8])
def test_a_bucket_that_is_not_there_is_an_error_and_no_memory_of_others(wrong):
    bucket, row, sums, item = made(2)
    bucket[row[0, 0, -1], 3] = wrong
    with pytest.raises(ValueError, match="not among the 8"):
        read_sums(bucket, row, sums)
    with pytest.raises(ValueError, match="not among the 8"):
        add_to_sums({"bucket_sum": sums, "behaviour_row": row}, bucket, item)


def test_shapes_that_do_not_fit_are_refused_with_both_numbers():
    bucket, row, sums, item = made(3)
    with pytest.raises(ValueError, match="bucket has 15 signatures, the sums 16"):
        read_sums(bucket[:, :15], row, sums)
    with pytest.raises(ValueError, match="item_vector is 63 wide, the sums 64"):
        add_to_sums({"bucket_sum": sums, "behaviour_row": row}, bucket, item[:, :63])


PORTABLE = """
import sys
import numpy as np
from store.bucket_sums import add_to_sums, read_sums
from tests.store.test_bucket_sums import made
bucket, row, sums, item = made(7)
np.savez(sys.argv[1], read=read_sums(bucket, row, sums)[0],
         added=add_to_sums({"bucket_sum": sums, "behaviour_row": row}, bucket, item)[0])
"""


def test_a_processor_without_these_instructions_gives_the_same_answers(tmp_path):
    """Sums may be rounded in other places; an addition may not."""
    own, other = answers_of_two_processors(PORTABLE, tmp_path)
    np.testing.assert_allclose(own["read"], other["read"], atol=1e-6)
    assert np.array_equal(own["added"], other["added"])
