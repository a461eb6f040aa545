"""Whether throughput holds with more connections."""

from loadtest.proofs.workers import rate_row


def test_throughput_may_fall_by_a_fifth_and_no_further():
    assert rate_row("one", [300.0, 310.0, 240.0]).met
    assert not rate_row("one", [323.0, 165.0, 165.0]).met
