"""bench-check: what counts as slower. The measuring itself runs in test_speed_table.py's world."""

import pytest

from loadtest.stage_check import _figure, check_stages, compared


def figures(reference: float = 2.0, **ms: float):
    made = {name.replace("_", " "): _figure([value * 0.98, value, value * 1.02], reference) for name, value in ms.items()}
    return made | {"reference": _figure([reference], 1.0)}


KEPT = figures(din_attend=8.0, din_queue=0.02, din_cpu=9.0)


def test_a_stage_that_takes_a_fifth_longer_is_slower():
    slower, table = compared(KEPT, figures(din_attend=9.6, din_queue=0.02, din_cpu=9.1))
    assert slower == ["din attend"]
    assert table.row_count == 3


def test_less_than_a_tenth_is_not():
    assert compared(KEPT, figures(din_attend=8.7, din_queue=0.02, din_cpu=9.8))[0] == []


def test_twice_next_to_nothing_is_not():
    assert compared(KEPT, figures(din_attend=8.0, din_queue=0.04, din_cpu=9.0))[0] == []


def test_what_is_within_its_noise_is_said_and_not_failed():
    noisy = figures(din_attend=9.6, din_queue=0.02, din_cpu=9.0)
    noisy["din attend"]["noise"] = 0.3
    slower, table = compared(KEPT, noisy)
    assert slower == []
    assert "noisy" in list(table.columns[-1].cells)


def test_a_machine_that_is_slower_altogether_cancels():
    assert compared(KEPT, figures(reference=3.0, din_attend=12.0, din_queue=0.03, din_cpu=13.5))[0] == []


def test_a_faster_machine_does_not_hide_a_slower_stage():
    assert compared(KEPT, figures(reference=1.0, din_attend=4.8, din_queue=0.01, din_cpu=4.5))[0] == ["din attend"]


def test_the_lower_quartile_counts_and_noise_is_half_the_distance_of_the_quartiles():
    assert _figure([10.0, 10.0, 9.0, 11.0, 10.0, 9.0, 11.0], 5.0) == {"ms": 9.5, "relative": 1.9, "noise": 0.05}


def test_without_a_baseline_it_says_how_to_make_one(tmp_path):
    with pytest.raises(ValueError, match=r"baseline.json: missing; `python -m loadtest bench-check --write`"):
        check_stages(write=False, baseline=tmp_path / "baseline.json")
