"""Labelled requests: drawn negatives and grouped impressions."""

import numpy as np

from export.data.requests import MAX_POSITIVES, NEGATIVES, Requests, from_impressions, with_drawn_negatives

POPULARITY = np.concatenate([[0, 0], np.arange(1, 51)])  # rows 2..51


def drawn(seed=3):
    random = np.random.default_rng(0)
    user = np.repeat(np.arange(40), 10)
    at = np.repeat(np.arange(80), 5) * 10
    row = random.integers(2, 52, 400).astype(np.int32)
    context = np.zeros((400, 1), np.int32)
    return user, at, row, with_drawn_negatives(user, at, row, context, POPULARITY, seed)


def test_a_request_has_at_most_three_positives_and_three_negatives_for_each():
    _, _, _, requests = drawn()
    for r in range(len(requests)):
        _, label = requests.items(r)
        positives = int(label.sum())
        assert 1 <= positives <= MAX_POSITIVES
        assert len(label) - positives == NEGATIVES * positives


def test_no_negative_was_bought_in_its_request():
    user, at, row, requests = drawn()
    for r in range(len(requests)):
        items, label = requests.items(r)
        basket = set(row[(user == requests.user[r]) & (at == requests.at[r])])
        assert basket.isdisjoint(items[label == 0])
        assert basket.issuperset(items[label == 1])


def test_negatives_follow_popularity_and_never_fall_on_padding_or_unknown():
    _, _, _, requests = drawn()
    negatives = requests.row[requests.label == 0]
    assert negatives.min() >= 2
    assert (negatives >= 27).mean() > 0.6  # the popular half holds three quarters of the weight


def test_the_same_seed_draws_the_same_requests_and_another_does_not():
    first, again, other = drawn(3)[3], drawn(3)[3], drawn(4)[3]
    assert (first.row == again.row).all()
    assert not np.array_equal(first.row, other.row)


def test_a_basket_that_holds_everything_gets_fewer_negatives_instead_of_wrong_ones():
    row = np.array([2, 3], np.int32)
    requests = with_drawn_negatives(
        np.zeros(2, int), np.zeros(2, int), row, np.zeros((2, 0), np.int32), np.array([0, 0, 5, 5]), 1
    )
    assert (requests.label == 1).all()


def test_impressions_of_one_user_and_time_become_one_request():
    user, at = np.array([1, 0, 1, 1]), np.array([5, 5, 5, 6])
    requests = from_impressions(
        user, at, np.array([7, 8, 9, 7], np.int32), np.array([1, 0, 0, 1], np.float32), np.zeros((4, 0), np.int32)
    )
    assert len(requests) == 3
    assert requests.items(1)[0].tolist() == [7, 9]


def test_selected_requests_keep_their_impressions_in_the_order_asked_for():
    _, _, _, requests = drawn()
    chosen = requests.select(np.array([5, 0]))
    assert chosen.items(0)[0].tolist() == requests.items(5)[0].tolist()
    assert chosen.items(1)[1].tolist() == requests.items(0)[1].tolist()


def test_requests_survive_a_file(tmp_path):
    _, _, _, requests = drawn()
    requests.save(tmp_path / "r.npz")
    loaded = Requests.load(tmp_path / "r.npz")
    assert all(np.array_equal(getattr(loaded, name), getattr(requests, name)) for name in Requests.__dataclass_fields__)
