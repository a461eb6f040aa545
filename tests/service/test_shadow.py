"""A shadow scores what was answered, and is never in the way."""

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import UnknownModel
from service.metrics import Metrics
from service.request import ScoreRequest
from service.scores import ScoreResponse
from service.shadow import Shadow, rank_correlation
from tests.service.serving import until

REQUEST = ScoreRequest(user_id="u", item_ids=["a", "b", "c"], explain=3, timeout_ms=7)


def response(*scores, degraded=()):
    return ScoreResponse("twin", "v1", np.array(scores, np.float32), list(degraded), 0, 9)


def value(metrics, name, **labels):
    return metrics.registry.get_sample_value(name, {"model": "twin", **labels})


def test_a_shadow_is_asked_for_its_version_and_compared():
    asked, metrics = [], Metrics()
    shadow = Shadow(lambda request: asked.append(request) or response(0.3, 0.2, 0.1), metrics)
    shadow.offer(REQUEST, response(0.1, 0.2, 0.3), "v2")
    shadow.close()
    assert (asked[0].model, asked[0].explain, asked[0].timeout_ms, asked[0].item_ids) == ("twin:v2", 0, None, ["a", "b", "c"])
    assert value(metrics, "ctr_shadow_total", result="compared") == 1
    assert value(metrics, "ctr_shadow_score_difference_sum") == pytest.approx(0.4 / 3)
    assert value(metrics, "ctr_shadow_rank_distance_sum") == pytest.approx(2)


def test_what_comes_while_it_is_busy_passes_it_by():
    hold, metrics = threading.Event(), Metrics()
    shadow = Shadow(lambda request: hold.wait(30) and response(1, 2, 3), metrics)
    for _ in range(3):
        shadow.offer(REQUEST, response(1, 2, 3), "v2")
    hold.set()
    until(lambda: value(metrics, "ctr_shadow_total", result="compared"))
    assert value(metrics, "ctr_shadow_total", result="passed_by") == 2
    shadow.offer(REQUEST, response(1, 2, 3), "v2")
    until(lambda: value(metrics, "ctr_shadow_total", result="compared") == 2)
    shadow.close()


def test_an_answer_without_the_store_is_not_compared_with_one_that_has_it():
    metrics = Metrics()
    shadow = Shadow(lambda request: response(0.3, 0.2), metrics)
    shadow.offer(REQUEST, response(0.1, 0.2, degraded=["store_timeout"]), "v2")
    shadow.close()
    assert value(metrics, "ctr_shadow_total", result="degraded") == 1
    assert value(metrics, "ctr_shadow_score_difference_count") is None


@pytest.mark.parametrize("fault", [UnknownModel("gone"), ZeroDivisionError("a bug")])
def test_a_shadow_that_fails_is_counted_and_asked_again(fault):
    metrics, faults = Metrics(), [fault]

    def score(request):
        if faults:
            raise faults.pop()
        return response(1, 2, 3)

    shadow = Shadow(score, metrics)
    shadow.offer(REQUEST, response(1, 2, 3), "v2")
    until(lambda: value(metrics, "ctr_shadow_total", result="failed"))
    until(lambda: shadow.offer(REQUEST, response(1, 2, 3), "v2") or value(metrics, "ctr_shadow_total", result="compared"))
    shadow.close()


@given(st.lists(st.floats(0, 1, width=32), min_size=2, max_size=30, unique=True), st.randoms())
def test_the_correlation_is_spearmans(values, random):
    first = np.array(values, np.float32)
    order = list(range(len(values)))
    random.shuffle(order)
    second = first[order]
    count = len(values)
    apart = np.argsort(np.argsort(first)) - np.argsort(np.argsort(second))
    assert rank_correlation(first, second) == pytest.approx(1 - 6 * (apart**2).sum() / (count * (count**2 - 1)))


def test_equal_scores_share_a_rank_and_have_no_order_of_their_own():
    assert rank_correlation(np.float32([1, 1, 2]), np.float32([5, 5, 7])) == pytest.approx(1)
    assert rank_correlation(np.float32([1, 1, 2, 3]), np.float32([1, 2, 3, 4])) == pytest.approx(0.9**0.5)  # ranks 0.5, 0.5, 2, 3
    assert rank_correlation(np.float32([1, 1]), np.float32([1, 2])) is None
    assert rank_correlation(np.float32([1]), np.float32([1])) is None
