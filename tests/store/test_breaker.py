"""The circuit breaker of the store."""

from store.breaker import Breaker


def opened(**settings):
    breaker = Breaker(failures=2, **settings)
    for _ in range(2):
        assert breaker.allows()
        breaker.failed(unreachable=False)
    return breaker


def test_it_opens_after_failures_in_a_row():
    assert opened(pause_s=60).open


def test_a_success_between_failures_keeps_it_closed():
    breaker = Breaker(failures=2)
    for report in (lambda: breaker.failed(unreachable=False), breaker.succeeded, lambda: breaker.failed(unreachable=False)):
        assert breaker.allows()
        report()
    assert not breaker.open


def test_no_connection_opens_it_at_once():
    breaker = Breaker(failures=3, pause_s=60)
    breaker.failed(unreachable=True)
    assert breaker.open
    assert not breaker.allows()


def test_callers_are_turned_away_until_the_pause_is_over():
    assert not opened(pause_s=60).allows()
    assert opened(pause_s=0).allows()


def test_one_caller_probes_while_the_others_wait():
    breaker = opened(pause_s=0)
    assert breaker.allows()
    assert not breaker.allows()


def test_a_probe_that_succeeds_closes_it():
    breaker = opened(pause_s=0)
    assert breaker.allows()
    breaker.succeeded()
    assert not breaker.open
    assert [breaker.allows(), breaker.allows()] == [True, True]


def test_a_probe_that_fails_keeps_it_open_and_lets_the_next_one_try():
    breaker = opened(pause_s=0)
    assert breaker.allows()
    breaker.failed(unreachable=False)
    assert breaker.open
    assert breaker.allows()
