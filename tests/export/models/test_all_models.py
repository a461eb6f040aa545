"""What holds for every model, by listing the registry: a new model is tested by existing."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from export.models import build, list_models
from export.models.registry import model_type, register
from store.graph_inputs import cross_with_gap, graph_inputs, recent_inputs, stack
from store.search import SEARCHES
from store.types import Candidates
from tests.export.models.synthetic import AT, CONTEXT, SHAPE, WITH_NEGATIVES, Small, behaviours, category, many, training_inputs

CANDIDATES = [5, 9, 12, 5, 33, 1, 20]  # one twice, one unknown
STATE_OF_ITEMS_ALONE = ("mimn", "sdim")  # folded from what was met, not from how it went

every_model = pytest.mark.parametrize("name", list_models())
every_shape = pytest.mark.parametrize("shape", [SHAPE, WITH_NEGATIVES], ids=["chosen only", "with negatives"])


@every_model
@pytest.mark.parametrize("length", [0, 1, 7, 300])
def test_scores_are_finite_for_any_length_of_life(name, length):
    assert np.isfinite(Small.of(name).logits(CANDIDATES, many(length))).all()


@every_model
@every_shape
def test_gradients_reach_every_parameter(name, shape):
    small = Small.of(name, shape=shape)
    model = small.model.train()
    _, inputs = small.search(CANDIDATES, many(60))
    scored = small.forward(inputs | training_inputs(inputs), training=True)
    loss = scored.logit.pow(2).sum()
    for extra in (scored.auxiliary_loss, scored.auxiliary_logit):
        loss = loss if extra is None else loss + extra.pow(2).sum()
    loss.backward()
    without = []
    for parameter_name, parameter in model.named_parameters():
        gradient = parameter.grad
        if gradient is None or not bool((gradient.to_dense() if gradient.is_sparse else gradient).any()):
            without.append(parameter_name)
    assert without == []


@every_model
@every_shape
def test_padding_changes_nothing(name, shape):
    """The same request alone, and beside a longer one in a batch that pads it."""
    small = Small.of(name, shape=shape)
    _, short = small.search(CANDIDATES[:3], many(4))
    _, long = small.search(CANDIDATES, many(80))
    alone = small.forward(short).logit
    together = small.forward(stack([short, long])).logit
    assert torch.allclose(together[0, :3], alone[0], atol=1e-6)


@every_model
def test_a_candidate_does_not_depend_on_those_beside_it(name):
    small = Small.of(name)
    together = small.logits(CANDIDATES, many(200))
    one_by_one = [small.logits([row], many(200))[0] for row in CANDIDATES]
    assert np.allclose(together, one_by_one, atol=1e-6)


@every_model
def test_another_order_of_candidates_only_reorders_the_scores(name):
    small = Small.of(name)
    order = np.random.default_rng(0).permutation(len(CANDIDATES))
    reordered = small.logits(np.array(CANDIDATES)[order], many(200))
    assert np.allclose(reordered, small.logits(CANDIDATES, many(200))[order], atol=1e-6)


@every_model
def test_a_candidate_that_stands_twice_gets_one_score(name):
    logits = Small.of(name).logits(CANDIDATES, many(200))
    assert logits[0] == pytest.approx(logits[3], abs=1e-6)


@every_model
def test_behaviours_matter(name):
    small = Small.of(name)
    liked, other = small.logits([5], behaviours([5] * 8)), small.logits([5], behaviours([9] * 8))
    assert not np.allclose(liked, other, atol=1e-4)


@every_model
def test_how_behaviours_went_matters_where_those_that_went_badly_are_kept(name):
    small = Small.of(name, shape=WITH_NEGATIVES)
    well, badly = (replace(many(30), cross=np.full((30, 1), bucket, np.uint8)) for bucket in (1, 2))
    assert not np.allclose(small.logits(CANDIDATES, well), small.logits(CANDIDATES, badly), atol=1e-4)


@every_model
def test_without_the_short_branch_all_but_states_of_items_alone_tell_how_behaviours_went(name):
    small = Small.of(name, shape=WITH_NEGATIVES, recent=0)
    well, badly = (small.logits(CANDIDATES, replace(many(30), cross=np.full((30, 1), bucket, np.uint8))) for bucket in (1, 2))
    if name in STATE_OF_ITEMS_ALONE:
        assert np.array_equal(well, badly)
    else:
        assert not np.allclose(well, badly, atol=1e-4)


@every_model
def test_two_runs_give_the_same_bytes(name):
    first, second = Small.of(name, seed=4), Small.of(name, seed=4)
    assert first.logits(CANDIDATES, many(90)).tobytes() == second.logits(CANDIDATES, many(90)).tobytes()
    assert first.model.state_dict().keys() == second.model.state_dict().keys()
    assert all(
        torch.equal(a, b) for a, b in zip(first.model.state_dict().values(), second.model.state_dict().values(), strict=True)
    )


@every_model
def test_weights_are_zero_on_padding(name):
    small = Small.of(name)
    retrieved, inputs = small.search(CANDIDATES, many(6))
    weight = small.forward(inputs).weight
    assert (weight is not None) == small.model.explains
    if weight is None:
        return
    mask = np.repeat(retrieved.mask, len(retrieved.place) // len(retrieved.index), axis=0)
    assert (weight[0].detach().numpy()[~mask] == 0).all()


@pytest.mark.parametrize(
    "name", [name for name in list_models() if model_type(name).search_name not in ("newest", "sessions", "life")]
)
@pytest.mark.parametrize("length", [1, 40, 90])
def test_a_search_that_may_keep_everything_is_full_attention(name, length):
    """K >= L: attention over the whole life; where the search is hard, over the candidate's category of it."""
    small, life = Small.of(name), many(length)
    found = small.logits(CANDIDATES, life)
    for logit, row in zip(found, CANDIDATES, strict=True):
        hard = small.model.search_name == "category"
        kept = life.select(np.flatnonzero(life.category == category(row))) if hard else life
        if row == 1 and hard:
            kept = life.select(slice(0, 0))  # the unknown item has no category
        everything = SEARCHES["life"](small.model.search_spec, {})
        candidates = Candidates(np.array([row], np.int32), category([row]))
        cross = cross_with_gap(kept, AT)
        retrieved = everything(candidates, kept, cross)
        inputs = graph_inputs(candidates, kept, cross, retrieved, CONTEXT) | recent_inputs(life, AT, small.model.config.recent)
        inputs["retrieved_size"] = retrieved.mask[None].astype(np.int32)
        with torch.inference_mode():
            assert float(small.forward(inputs).logit[0, 0]) == pytest.approx(float(logit), abs=1e-5)


@every_model
def test_an_unknown_setting_is_refused_with_the_known_ones(name):
    with pytest.raises(ValueError, match=r"heeds; known are dim, heads"):
        build(name, SHAPE, heeds=2)


def test_an_unknown_model_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"din.*eta.*twin_v2"):
        build("dim", SHAPE)


def test_a_name_cannot_be_registered_twice():
    with pytest.raises(ValueError, match="din is registered twice"):
        register("din")(type(Small.of("eta").model))
