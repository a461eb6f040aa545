"""What makes SDIM that model: (m, tau)-signatures, raw bucket sums, empty buckets, one addition per behaviour."""

import numpy as np
import pytest
import torch

from export.models import build
from store.signatures import random_directions, sign
from tests.export.models.synthetic import ITEMS, SHAPE, Small, behaviours, many


def interest_of(small, rows, life):
    """Interest [C, D] of candidates, through the model."""
    _, inputs = small.search(rows, life)
    tables = small.model.tables(small.vectors)
    arrays = {name: torch.from_numpy(inputs[name]) for name in small.model.batch_names} | {
        "bucket": torch.from_numpy(tables["bucket"])
    }
    with torch.inference_mode():
        user = small.model.user(small.vectors, arrays)
        return small.model.interest(small.vectors[arrays["candidate_row"]], user).vector[0, 0].numpy(), user.state["bucket_sum"][
            0
        ]


def by_hand(small, row, life):
    """Equation 12, one candidate, from the signatures themselves."""
    config, vectors = small.model.config, small.vectors.numpy()
    bits = np.unpackbits(sign(vectors, small.model.directions.numpy())[:, None].view(np.uint8), axis=1, bitorder="little")
    total = np.zeros(config.dim, np.float32)
    signatures = config.bits // config.signature_bits
    for g in range(signatures):
        part = bits[:, g * config.signature_bits : (g + 1) * config.signature_bits]
        same = [r for r in life.row if (part[r] == part[row]).all()]
        bucket = vectors[same].sum(axis=0)
        norm = np.linalg.norm(bucket)
        total += bucket / norm if norm > 0 else 0
    return total / signatures


@pytest.mark.parametrize(("bits", "signature_bits"), [(48, 3), (16, 1), (60, 10)])
def test_interest_is_the_mean_over_signatures_of_the_normalised_bucket_sums(bits, signature_bits):
    small, life = Small.of("sdim", bits=bits, signature_bits=signature_bits), many(30)
    interest, _ = interest_of(small, [5, 9, 33], life)
    for found, row in zip(interest, [5, 9, 33], strict=True):
        assert np.allclose(found, by_hand(small, row, life), atol=1e-5)


def test_an_empty_bucket_gives_zeros_and_still_counts():
    small = Small.of("sdim")
    interest, _ = interest_of(small, [5], behaviours([9]))
    assert np.isfinite(interest).all()
    bucket = small.model.tables(small.vectors)["bucket"]
    shared = (bucket[5] == bucket[9]).mean()  # share of the signatures that collide
    assert 0 < shared < 1
    unit = small.vectors[9] / small.vectors[9].norm()
    assert np.allclose(interest[0], shared * unit.numpy(), atol=1e-5)


def test_nobody_shares_a_bucket_with_an_empty_life():
    interest, state = interest_of(Small.of("sdim"), [5, 9], behaviours([]))
    assert (interest == 0).all()
    assert not bool(state.any())


def test_sums_are_raw_so_that_two_halves_of_a_life_add_up():
    small, life = Small.of("sdim"), many(60)
    _, whole = interest_of(small, [5], life)
    _, first = interest_of(small, [5], life.select(slice(0, 25)))
    _, second = interest_of(small, [5], life.select(slice(25, None)))
    assert torch.allclose(first + second, whole, atol=1e-4)
    assert torch.allclose(whole.sum(dim=1), small.vectors[life.row].sum(dim=0).expand(16, -1), atol=1e-4)


def test_the_table_of_buckets_holds_tau_bits_of_the_signature_each():
    small = Small.of("sdim")
    signature = sign(small.vectors.numpy(), small.model.directions.numpy())
    bucket = small.model.tables(small.vectors)["bucket"]
    assert bucket.shape == (ITEMS, 16)
    assert bucket.dtype == np.int32
    rebuilt = sum(bucket[:, g].astype(np.uint64) << np.uint64(3 * g) for g in range(16))
    assert (rebuilt == (signature & np.uint64(2**48 - 1))).all()


def test_the_directions_come_from_the_seed_of_the_config_and_are_saved():
    torch.manual_seed(0)
    first, same, other = (build("sdim", SHAPE, dim=16, seed=seed).state_dict()["directions"] for seed in (3, 3, 4))
    assert torch.equal(first, same)
    assert np.array_equal(first.numpy(), random_directions(16, 3))
    assert not torch.equal(first, other)
    opened = build("sdim", SHAPE, dim=16, seed=4)
    opened.load_state_dict(build("sdim", SHAPE, dim=16, seed=3).state_dict())
    assert torch.equal(opened.directions, first)


def test_there_is_nothing_to_learn_in_it_but_vectors():
    names = {name.split(".")[0] for name, _ in Small.of("sdim", recent=0).model.named_parameters()}
    assert names == {"items", "head", "context"}


def test_more_bits_than_a_signature_has_are_refused_with_both_numbers():
    with pytest.raises(ValueError, match="72 bits in signatures of 3: at most 64"):
        Small.of("sdim", bits=72)
