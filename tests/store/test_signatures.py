import numpy as np
import pytest

from store.signatures import BITS, random_directions, sign


def distance(one, other):
    return int(one ^ other).bit_count()


@pytest.mark.parametrize("j", [0, 1, 31, 32, 63])
def test_bit_j_is_hash_j(j):
    directions = np.eye(BITS, dtype=np.float32)
    assert int(sign(directions[j : j + 1], directions)[0]) == 1 << j


def test_a_bit_is_set_by_a_positive_product_only():
    directions = np.zeros((2, BITS), np.float32)
    directions[:, 0], directions[:, 1], directions[:, 2] = (1, 0), (-1, 0), (0, 1)
    assert sign(np.array([[3, 0]], np.float32), directions).tolist() == [0b001]


def test_the_zero_vector_gets_0():
    assert sign(np.zeros((1, 8), np.float32), random_directions(8, seed=1)).tolist() == [0]


def test_the_opposite_vector_has_every_bit_flipped():
    directions = random_directions(8, seed=1)
    vector = np.arange(1, 9, dtype=np.float32)[None]
    assert distance(sign(vector, directions)[0], sign(-vector, directions)[0]) == BITS


def test_length_does_not_matter():
    directions = random_directions(8, seed=1)
    vector = np.arange(1, 9, dtype=np.float32)[None]
    assert sign(vector, directions) == sign(1024 * vector, directions)


def test_distance_follows_the_angle():
    vectors = np.array([[np.cos(a), np.sin(a)] for a in np.linspace(0, np.pi, 5)], np.float32)
    mean = np.zeros(5)
    for seed in range(40):
        signatures = sign(vectors, random_directions(2, seed))
        mean += [distance(signatures[0], signature) / 40 for signature in signatures]
    np.testing.assert_allclose(mean, [0, 16, 32, 48, 64], atol=3)


def test_a_signature_does_not_depend_on_the_other_vectors():
    vectors = np.random.default_rng(0).standard_normal((300, 64), dtype=np.float32)
    directions = random_directions(64, seed=1)
    together = sign(vectors, directions)
    assert [int(sign(vector[None], directions)[0]) for vector in vectors] == together.tolist()


def test_a_seed_gives_the_same_directions_again():
    np.testing.assert_array_equal(random_directions(8, seed=3), random_directions(8, seed=3))
    assert (random_directions(8, seed=3) != random_directions(8, seed=4)).any()


def test_arrays_have_the_documented_types():
    directions = random_directions(8, seed=1)
    assert (directions.shape, directions.dtype) == ((8, BITS), np.float32)
    signatures = sign(np.ones((5, 8), np.float32), directions)
    assert (signatures.shape, signatures.dtype) == ((5,), np.uint64)
    assert sign(np.zeros((0, 8), np.float32), directions).shape == (0,)
