"""What a soak concludes from what it saw."""

import numpy as np
import pytest

from loadtest.proofs.soak import (
    CONTROL_S,
    GROWTH_MB,
    PIECES,
    SLOPE_MS,
    TIMES,
    Soaked,
    growth_of,
    is_flat,
    leak,
    rise_of,
    soak_rows,
    verdict,
)


def test_the_rise_of_a_line_is_from_its_first_point_to_its_last():
    rise, error = rise_of([3.0, 5.0, 7.0, 9.0])
    assert rise == pytest.approx(6)
    assert error == pytest.approx(0, abs=1e-9)


def test_the_rise_and_its_error_are_those_of_a_regression():
    values = np.random.default_rng(0).normal(10, 1, 20)
    (slope, _), covariance = np.polyfit(np.arange(20), values, 1, cov=True)
    rise, error = rise_of(values)
    assert rise == pytest.approx(19 * slope)
    assert error == pytest.approx(19 * covariance[0, 0] ** 0.5)


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 2.0]])
def test_of_too_few_points_nothing_is_certain(values):
    assert rise_of(values)[1] == float("inf")


def test_memory_counts_from_the_middle_on():
    """What a scorer takes while it warms up is no leak."""
    assert growth_of([100, 200, 300, 400, 400, 400, 400, 400]) == pytest.approx(0)
    assert growth_of([100, 100, 100, 100, 100, 110, 120, 130]) == pytest.approx(30)


def test_a_small_rise_and_one_of_chance_are_level_and_others_are_not():
    assert verdict(0.4, 0.0) == "level"
    assert verdict(0.9, 0.5) == "level"
    assert verdict(0.9, 0.4) == "rises"
    assert verdict(3.0, 1.4) == "rises"
    assert verdict(-5.0, 0.1) == "level"
    assert is_flat(20.0)
    assert not is_flat(20.1)


def test_noise_forgives_nothing():
    assert verdict(3.0, 1.6) == "not decided"
    assert verdict(0.0, 0.51) == "not decided"
    assert verdict(float("nan"), float("nan")) == "not decided"


def test_the_control_is_a_few_times_what_is_allowed():
    wrong = leak(50.0, 40.0)
    assert float(wrong["LEAKED_BYTES"]) * 50 * 20 / 2**20 == pytest.approx(TIMES * GROWTH_MB, rel=0.01)
    assert float(wrong["SLOWER_S"]) * 40 * 1000 == pytest.approx(TIMES * SLOPE_MS)


def made(memory_mb_each, ms_each):
    noise = np.random.default_rng(1).normal(0, 0.1, PIECES)
    return Soaked(
        50, [300 + memory_mb_each * i for i in range(PIECES)], [10 + ms_each * i + noise[i] for i in range(PIECES)], 0, 5_000
    )


def verdicts(soaked, control):
    return [row.met for row in soak_rows(soaked, 100.0, control)]


def test_a_sound_scorer_and_a_leaky_control_meet_everything():
    assert verdicts(made(0.1, 0.0), made(5, 0.2)) == [True] * 5


def test_a_leaky_scorer_does_not():
    assert verdicts(made(5, 0.2), made(5, 0.2)) == [True, False, False, True, True]


def test_a_control_that_is_not_found_out_fails_the_proof():
    assert verdicts(made(0.1, 0.0), made(0.1, 0.0)) == [True, True, True, False, False]


def test_the_control_is_no_longer_than_the_soak():
    soaked = made(0, 0)
    assert [row.seconds for row in soak_rows(soaked, 7.0, soaked)] == [7.0] * 5
    assert [row.seconds for row in soak_rows(soaked, 700.0, soaked)][3:] == [CONTROL_S] * 2
