"""Labels: which version answers whom, and the file that says so."""

import json
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from service.labels import FILE, Canary, Labels, LabelsInvalid, changing, read_labels, write_labels

OLD, NEW = "20260101T000000Z", "20260201T000000Z"


def test_without_a_canary_the_stable_version_answers_everybody():
    assert {Labels(stable=OLD).answering("twin", f"u{i}") for i in range(100)} == {OLD}


@pytest.mark.parametrize(("percent", "low", "high"), [(0, 0, 0), (5, 380, 620), (50, 4_800, 5_200), (100, 10_000, 10_000)])
def test_a_canary_answers_its_share_of_the_users(percent, low, high):
    labels = Labels(stable=OLD, canary=Canary(version=NEW, percent=percent))
    assert low <= sum(labels.answering("twin", f"u{i}") == NEW for i in range(10_000)) <= high


@given(st.text(max_size=9), st.floats(0, 100))
def test_a_user_is_always_answered_by_the_same_version_and_stays_with_a_canary_that_grows(user, percent):
    small, large = (Labels(stable=OLD, canary=Canary(version=NEW, percent=share)) for share in (percent / 2, percent))
    assert small.answering("twin", user) == small.answering("twin", user)
    if small.answering("twin", user) == NEW:
        assert large.answering("twin", user) == NEW


def test_two_models_draw_their_canaries_users_apart():
    labels = Labels(stable=OLD, canary=Canary(version=NEW, percent=50))
    alike = sum(labels.answering("twin", f"u{i}") == labels.answering("eta", f"u{i}") for i in range(2_000))
    assert 800 < alike < 1_200


def test_a_version_that_becomes_stable_is_no_longer_canary_or_shadow():
    labels = Labels(stable=OLD, canary=Canary(version=NEW, percent=5), shadow=NEW)
    assert labels.with_stable(NEW) == Labels(stable=NEW)
    assert labels.with_stable("20250101T000000Z").canary == labels.canary


def test_what_was_written_is_read(tmp_path):
    labels = Labels(stable=OLD, canary=Canary(version=NEW, percent=2.5), shadow=NEW)
    write_labels(tmp_path, labels)
    assert read_labels(tmp_path) == labels
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_labels_that_cannot_be_written_to_their_end_leave_those_before(tmp_path, monkeypatch):
    write_labels(tmp_path, Labels(stable=OLD))

    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr("service.labels.os.replace", full)
    with pytest.raises(OSError, match="no space left"):
        write_labels(tmp_path, Labels(stable=NEW))
    assert read_labels(tmp_path) == Labels(stable=OLD)


def test_no_file_is_no_labels(tmp_path):
    assert read_labels(tmp_path) is None


def test_a_model_that_is_not_to_be_served_has_a_file_that_says_so(tmp_path):
    write_labels(tmp_path, None)
    assert (tmp_path / FILE).read_text() == "null\n"
    assert read_labels(tmp_path) is None


def test_nobody_is_answered_by_a_canary():
    assert Labels(stable=OLD, canary=Canary(version=NEW, percent=100)).answering("twin", None) == OLD


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", FILE),
        ("[]", FILE),
        ('{"stable": "../../etc"}', "stable"),
        ('{"stable": "20260101T000000Z", "canary": {"version": "20260201T000000Z", "percent": 101}}', "canary.percent"),
        ('{"stable": "20260101T000000Z", "canary": {"version": "20260201T000000Z", "percent": NaN}}', "canary.percent"),
        ('{"stable": "20260101T000000Z", "canry": null}', "canry"),
        ("{}", "stable"),
    ],
)
def test_a_file_that_is_none_is_refused_naming_it_and_the_field(tmp_path, content, said):
    (tmp_path / FILE).write_text(content)
    with pytest.raises(LabelsInvalid, match=said) as raised:
        read_labels(tmp_path)
    assert str(tmp_path) in str(raised.value)


def test_a_version_is_no_path():
    with pytest.raises(ValidationError):
        Labels.model_validate(json.loads('{"stable": "20260101T000000Z/../x"}'))


def test_a_shadow_is_no_label_to_ask_by():
    labels = Labels(stable=OLD, canary=Canary(version=NEW, percent=5), shadow=NEW)
    assert [labels.of(word) for word in ("stable", "canary", "shadow", "latest")] == [OLD, NEW, None, None]


def test_one_changes_a_models_labels_at_a_time(tmp_path):
    """Locks are of open files: two of one process are as two processes."""
    order = []

    def other():
        with changing(tmp_path):
            order.append("other")

    with changing(tmp_path):
        waiting = threading.Thread(target=other)
        waiting.start()
        time.sleep(0.1)
        order.append("first")
    waiting.join(60)
    assert order == ["first", "other"]
