"""One version at a time: loaded, or why not, and when it is worth another try."""

import time

import pytest

import service.admission
from service.admission import AGAIN_S, Admission
from service.errors import BundleRefused
from service.loading import Loading
from service.metrics import Metrics
from store.bundle import MANIFEST
from tests.service.tiny import VERSION


@pytest.fixture
def admission(tiny):
    tiny.add("din")
    return Admission(tiny.bundles, "", Loading("cpu", 1), Metrics())


def test_the_first_version_that_is_loaded_says_which_data_set_is_served(admission, tiny):
    assert admission.data == ""
    assert admission.load("din", VERSION).version == VERSION
    assert admission.data == tiny.data
    assert admission.reason("din", VERSION) == ""


def test_a_version_of_another_data_set_is_out(tiny):
    tiny.add("din")
    other = Admission(tiny.bundles, "other", Loading("cpu", 1), Metrics())
    with pytest.raises(BundleRefused, match=f"data set {tiny.data}, this scorer serves other"):
        other.load("din", VERSION)
    assert other.is_out("din", VERSION)
    assert other.reason("din", VERSION) == f"data set {tiny.data}, this scorer serves other"


def test_a_bad_version_is_out_until_it_is_loaded_after_all(admission, tiny):
    manifest = tiny.bundles / "din" / VERSION / MANIFEST
    good = manifest.read_bytes()
    manifest.write_bytes(good[:-7])
    with pytest.raises(BundleRefused, match=MANIFEST):
        admission.load("din", VERSION)
    assert admission.is_out("din", VERSION)
    assert not admission.may_pass("din", [VERSION])
    assert MANIFEST in admission.reason("din", VERSION)
    manifest.write_bytes(good)
    admission.load("din", VERSION)
    assert not admission.is_out("din", VERSION)


def test_what_says_nothing_of_the_version_may_pass_and_is_tried_again_after_a_pause(admission, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(Loading, "load", lambda *_: (_ for _ in ()).throw(OSError("too many open files")))
        with pytest.raises(BundleRefused, match="too many open files"):
            admission.load("din", VERSION)
    assert admission.may_pass("din", [VERSION])
    assert admission.is_out("din", VERSION)
    assert not admission.is_time_for("din", [VERSION])
    now = time.monotonic()
    monkeypatch.setattr(service.admission.time, "monotonic", lambda: now + AGAIN_S + 1)
    assert not admission.is_out("din", VERSION)
    assert admission.is_time_for("din", [VERSION])


def test_it_is_no_time_for_a_version_that_is_still_written(admission, tiny):
    assert admission.is_time_for("din", [VERSION])
    (tiny.bundles / "din" / VERSION / MANIFEST).unlink()
    assert not admission.is_finished("din", VERSION)
    assert not admission.is_time_for("din", [VERSION])
