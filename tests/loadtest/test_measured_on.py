"""What a machine was like when something was measured."""

from loadtest.measured_on import reference_ms


def test_the_reference_is_some_milliseconds_of_work():
    assert 0.1 < reference_ms() < 200
