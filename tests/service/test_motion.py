"""Versions in motion: loaded beside the others, labelled, followed, refused, gone back to."""

import os
import shutil
import threading
import time

import pytest

import service.admission
from service.admission import AGAIN_S
from service.bundle_folder import newest_in
from service.bundles import Bundles
from service.errors import BundleRefused, LabelsNotKept, NoModel, UnknownModel
from service.labels import FILE, Canary, Labels, read_labels, write_labels
from service.loading import Loading
from service.metrics import Metrics
from store.bundle import GRAPH

FIRST, SECOND, THIRD = "20260101T000000Z", "20260201T000000Z", "20260301T000000Z"


@pytest.fixture
def folder(tiny):
    for version in (FIRST, SECOND):
        tiny.add("din", version)
    return tiny


def opened(tiny, metrics=None, at_start=None):
    return Bundles(tiny.bundles, "", "", Loading("cpu", 1), metrics or Metrics(), at_start)


def damage(tiny, version):
    path = tiny.bundles / "din" / version / GRAPH
    path.write_bytes(path.read_bytes()[:-9])


def versions_of(bundles):
    return {loaded.version for loaded in bundles.loaded}


def test_the_newest_is_stable_where_no_labels_are(folder):
    bundles = opened(folder)
    assert bundles.get("din").version == SECOND
    assert versions_of(bundles) == {SECOND}


def test_labels_say_what_is_loaded_and_who_answers(folder):
    write_labels(folder.bundles / "din", Labels(stable=FIRST, canary=Canary(version=SECOND, percent=100)))
    bundles = opened(folder)
    assert bundles.get("din", "anybody").version == SECOND
    assert bundles.get("din:stable").version == FIRST
    assert bundles.get("din:canary").version == SECOND
    with pytest.raises(UnknownModel, match="din:shadow"):
        bundles.get("din:shadow")


def test_labels_that_name_what_cannot_be_served_give_way_to_what_can(folder):
    write_labels(folder.bundles / "din", Labels(stable=FIRST, shadow=SECOND))
    damage(folder, SECOND)
    bundles = opened(folder)
    assert bundles.get("din").version == FIRST
    assert bundles.shadow_of("din") is None
    assert f"din:{SECOND}" in bundles.admission.refused


def test_a_new_version_is_stable_after_one_call_and_the_old_one_stays_to_go_back_to(folder):
    bundles = opened(folder)
    folder.add("din", THIRD)
    assert bundles.load("din").version == THIRD
    assert bundles.get("din").version == THIRD
    assert versions_of(bundles) == {SECOND, THIRD}
    assert bundles.load("din", SECOND).version == SECOND  # rollback: nothing is loaded again
    assert versions_of(bundles) == {SECOND, THIRD}


def test_a_rollback_takes_the_loaded_version_as_it_is(folder):
    bundles = opened(folder)
    before = bundles.get("din")
    folder.add("din", THIRD)
    bundles.load("din")
    assert bundles.load("din", SECOND) is before


def test_no_more_versions_stay_than_labels_name_and_the_last_stable_one(folder):
    bundles = opened(folder)
    folder.add("din", THIRD)
    for version in (FIRST, SECOND, THIRD, FIRST, THIRD):
        bundles.load("din", version)
    assert versions_of(bundles) == {FIRST, THIRD}


def test_a_bad_version_is_refused_and_nothing_changes(folder):
    metrics = Metrics()
    bundles = opened(folder, metrics)
    folder.add("din", THIRD)
    damage(folder, THIRD)
    with pytest.raises(BundleRefused, match="sha256"):
        bundles.load("din")
    assert bundles.get("din").version == SECOND
    assert read_labels(folder.bundles / "din") is None
    assert metrics.registry.get_sample_value("ctr_model_load_total", {"result": "refused"}) == 1


def test_a_version_of_another_data_set_is_refused(folder, tmp_path):
    bundles = opened(folder)
    other = type(folder).at(tmp_path / "other", "other")
    other.add("din", THIRD)
    shutil.copytree(tmp_path / "other" / "din" / THIRD, folder.bundles / "din" / THIRD)
    with pytest.raises(BundleRefused, match="data set other"):
        bundles.load("din", THIRD)


@pytest.mark.parametrize("model", ["nobody", "..", "../bundles/din", ".", "", "din/" + SECOND])
def test_a_model_is_a_folder_of_that_name_and_no_path(folder, model):
    with pytest.raises(UnknownModel, match="din"):
        opened(folder).load(model)


@pytest.mark.parametrize("version", ["20990101T000000Z", "../../din/" + FIRST, "", "latest"])
def test_a_version_is_one_that_is_there(folder, version):
    with pytest.raises(UnknownModel, match=SECOND):
        opened(folder).load("din", version)


def test_the_stable_version_before_stays_while_other_labels_change(folder):
    bundles = opened(folder)
    folder.add("din", THIRD)
    bundles.load("din")
    before = bundles.get(f"din:{SECOND}")
    bundles.label("din", Labels(stable=THIRD, canary=Canary(version=FIRST, percent=1)))
    bundles.label("din", Labels(stable=THIRD))
    assert versions_of(bundles) == {SECOND, THIRD}
    assert bundles.load("din", SECOND) is before


def test_nobody_in_particular_is_answered_by_the_stable_version(folder):
    """What looks at a model beside requests: metadata, item tables, keepers."""
    write_labels(folder.bundles / "din", Labels(stable=FIRST, canary=Canary(version=SECOND, percent=100)))
    assert opened(folder).get("din").version == FIRST


def test_labels_are_kept_for_the_next_start(folder):
    wanted = Labels(stable=FIRST, canary=Canary(version=SECOND, percent=10))
    assert opened(folder).label("din", wanted) == wanted
    assert opened(folder).served("din").labels == wanted


def test_labels_of_versions_that_are_not_there_change_nothing(folder):
    bundles = opened(folder)
    with pytest.raises(UnknownModel, match=THIRD):
        bundles.label("din", Labels(stable=FIRST, shadow=THIRD))
    assert bundles.served("din").labels == Labels(stable=SECOND)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_to_changes_nothing(folder):
    bundles = opened(folder)
    (folder.bundles / "din").chmod(0o500)
    try:
        with pytest.raises(LabelsNotKept, match=FILE):
            bundles.load("din", FIRST)
    finally:
        (folder.bundles / "din").chmod(0o700)
    assert bundles.get("din").version == SECOND


def test_labels_that_cannot_be_written_change_nothing(folder, monkeypatch):
    bundles = opened(folder)

    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr("service.bundles.write_labels", full)
    with pytest.raises(LabelsNotKept, match="no space left"):
        bundles.load("din", FIRST)
    assert bundles.get("din").version == SECOND


def test_a_model_that_is_unloaded_is_gone_until_it_is_loaded(folder):
    metrics = Metrics()
    bundles = opened(folder, metrics)
    folder.add("sim_hard")
    bundles.load("sim_hard")
    bundles.unload("din")
    assert bundles.names == ["sim_hard"]
    labels = {"model": "din", "version": SECOND, "provider": "cpu"}
    assert metrics.registry.get_sample_value("ctr_model_info", labels) is None
    assert metrics.registry.get_sample_value("ctr_table_age_seconds", {"model": "din"}) is None
    bundles.follow(newest=True)
    assert bundles.names == ["sim_hard"]
    bundles.load("din")
    assert bundles.names == ["din", "sim_hard"]


def test_a_model_that_is_unloaded_is_so_in_other_processes_and_after_a_start(folder):
    folder.add("sim_hard")
    ours, other = opened(folder), opened(folder)
    other.unload("din")
    ours.follow(newest=False)
    assert ours.names == opened(folder).names == ["sim_hard"]
    other.load("din", FIRST)
    ours.follow(newest=False)
    assert ours.get("din").version == opened(folder).get("din").version == FIRST


def test_a_process_that_is_started_later_takes_up_what_the_others_have(folder):
    """Without labels, of several processes: a version that came since waits for a call."""
    at_start = newest_in(folder.bundles)
    first = opened(folder, at_start=at_start)
    folder.add("din", THIRD)
    folder.add("eta")
    again = opened(folder, at_start=at_start)
    assert [one.version for one in again.all] == [one.version for one in first.all] == [SECOND]
    first.load("din")
    assert opened(folder, at_start=at_start).get("din").version == THIRD


def test_without_any_model_nothing_is_served(folder):
    bundles = opened(folder)
    bundles.unload("din")
    with pytest.raises(NoModel):
        bundles.get("din")


def test_labels_of_another_process_are_followed(folder):
    ours, other = opened(folder), opened(folder)
    other.label("din", Labels(stable=FIRST))
    ours.follow(newest=False)
    assert ours.get("din").version == FIRST
    folder.add("din", THIRD)
    other.load("din")
    ours.follow(newest=False)
    assert ours.get("din").version == THIRD


def test_a_change_begins_from_the_labels_of_other_processes(folder):
    folder.add("din", THIRD)
    ours, other = opened(folder), opened(folder)
    canary = Canary(version=SECOND, percent=10)
    other.label("din", Labels(stable=FIRST, canary=canary))
    assert ours.labels_of("din") == Labels(stable=FIRST, canary=canary)
    other.label("din", Labels(stable=FIRST, canary=canary, shadow=SECOND))
    ours.load("din", THIRD)
    assert read_labels(folder.bundles / "din") == Labels(stable=THIRD, canary=canary, shadow=SECOND)
    other.unload("din")
    with pytest.raises(UnknownModel):
        ours.labels_of("din")
    with pytest.raises(UnknownModel):
        ours.unload("din")


def test_labels_that_cannot_be_read_do_not_stop_a_load(folder):
    bundles = opened(folder)
    (folder.bundles / "din" / FILE).write_text("{")
    bundles.load("din", FIRST)
    assert read_labels(folder.bundles / "din") == Labels(stable=FIRST)


def test_labels_are_told_while_a_version_is_loaded(folder, monkeypatch):
    bundles, loading, free, load = opened(folder), threading.Event(), threading.Event(), Loading.load

    def slow(self, path):
        loading.set()
        assert free.wait(60)
        return load(self, path)

    monkeypatch.setattr(Loading, "load", slow)
    changed = threading.Thread(target=bundles.load, args=("din", FIRST))
    changed.start()
    assert loading.wait(60)
    assert bundles.labels_of("din") == Labels(stable=SECOND)
    free.set()
    changed.join(60)
    assert bundles.labels_of("din") == Labels(stable=FIRST)


@pytest.fixture
def no_memory(monkeypatch):
    """Loads fail while it holds anything, and are counted."""
    tried, load = [], Loading.load
    faults = [MemoryError("none left")]

    def failing(self, path):
        tried.append(path.name)
        if faults:
            raise faults[0]
        return load(self, path)

    monkeypatch.setattr(Loading, "load", failing)
    return faults, tried


def test_a_load_that_fails_for_another_reason_is_refused_too(folder, no_memory):
    bundles = opened(folder)
    assert bundles.names == []
    with pytest.raises(BundleRefused, match="MemoryError: none left"):
        bundles.load("din")
    faults, _ = no_memory
    faults.clear()
    assert bundles.load("din").version == SECOND
    assert bundles.admission.refused == {f"din:{FIRST}": f"din:{FIRST}: MemoryError: none left"}


@pytest.mark.parametrize("labelled", [True, False])
def test_a_load_that_failed_once_is_tried_again_after_a_pause(folder, no_memory, monkeypatch, labelled):
    faults, tried = no_memory
    faults.clear()
    ours, other = opened(folder), opened(folder)
    folder.add("din", THIRD)
    if labelled:
        other.load("din", THIRD)
    faults.append(OSError("too many open files"))
    tried.clear()
    for _ in range(3):
        ours.follow(newest=not labelled)
    assert (ours.get("din").version, tried) == (SECOND, [THIRD])
    faults.clear()
    now = time.monotonic()
    monkeypatch.setattr(service.admission.time, "monotonic", lambda: now + AGAIN_S + 1)
    ours.follow(newest=not labelled)
    assert ours.get("din").version == THIRD


def test_labels_whose_versions_could_not_be_loaded_at_the_start_are_followed_later(folder, monkeypatch):
    write_labels(folder.bundles / "din", Labels(stable=SECOND, shadow=FIRST))
    load = Loading.load

    def failing(self, path):
        if path.name == FIRST:
            raise OSError("too many open files")
        return load(self, path)

    monkeypatch.setattr(service.admission, "AGAIN_S", 0.0)
    with monkeypatch.context() as patched:
        patched.setattr(Loading, "load", failing)
        bundles = opened(folder)
    assert (bundles.get("din").version, bundles.shadow_of("din")) == (SECOND, None)
    bundles.follow(newest=False)
    assert bundles.shadow_of("din") == FIRST


def test_new_versions_are_followed_where_that_is_wanted_and_no_labels_are(folder):
    bundles = opened(folder)
    folder.add("din", THIRD)
    bundles.follow(newest=False)
    assert bundles.get("din").version == SECOND
    bundles.follow(newest=True)
    assert bundles.get("din").version == THIRD
    assert not (folder.bundles / "din" / FILE).exists()


def test_labels_pin_a_model(folder):
    bundles = opened(folder)
    bundles.label("din", Labels(stable=FIRST))
    folder.add("din", THIRD)
    bundles.follow(newest=True)
    assert bundles.get("din").version == FIRST


def test_a_bad_new_version_is_looked_at_once(folder):
    metrics = Metrics()
    bundles = opened(folder, metrics)
    folder.add("din", THIRD)
    damage(folder, THIRD)
    for _ in range(3):
        bundles.follow(newest=True)
    assert bundles.get("din").version == SECOND
    assert metrics.registry.get_sample_value("ctr_model_load_total", {"result": "refused"}) == 1


def test_an_unfinished_version_is_taken_once_it_is_finished(folder):
    """Its manifest is the last file: until then it is not there."""
    bundles = opened(folder)
    path = folder.add("din", THIRD, finished=False)
    bundles.follow(newest=True)
    assert bundles.get("din").version == SECOND
    shutil.rmtree(path)
    folder.add("din", THIRD)
    bundles.follow(newest=True)
    assert bundles.get("din").version == THIRD


def test_a_new_model_is_followed_too(folder):
    bundles = opened(folder)
    folder.add("eta")
    bundles.follow(newest=True)
    assert bundles.names == ["din", "eta"]


def test_labels_that_are_removed_change_nothing_until_a_new_version_comes(folder):
    bundles = opened(folder)
    bundles.label("din", Labels(stable=FIRST))
    (folder.bundles / "din" / FILE).unlink()
    bundles.follow(newest=False)
    assert bundles.get("din").version == FIRST
    bundles.follow(newest=True)
    assert bundles.get("din").version == SECOND


def test_bad_labels_of_another_process_change_nothing(folder):
    bundles = opened(folder)
    write_labels(folder.bundles / "din", Labels(stable=FIRST))
    bundles.follow(newest=False)
    for content in ("{", '{"stable": "../../x"}', '{"stable": null}', f'{{"stabel": "{FIRST}"}}'):
        (folder.bundles / "din" / FILE).write_text(content)
        bundles.follow(newest=False)
        assert bundles.get("din").version == FIRST


def test_labels_that_come_before_their_version_are_followed_once_it_is_whole(folder):
    bundles = opened(folder)
    write_labels(folder.bundles / "din", Labels(stable=THIRD))
    bundles.follow(newest=False)
    path = folder.add("din", THIRD, finished=False)
    bundles.follow(newest=False)
    assert (bundles.get("din").version, bundles.admission.refused) == (SECOND, {})
    shutil.rmtree(path)
    folder.add("din", THIRD)
    bundles.follow(newest=False)
    assert bundles.get("din").version == THIRD


def test_every_version_says_why_it_is_not_served(folder):
    bundles = opened(folder)
    folder.add("din", THIRD)
    damage(folder, THIRD)
    with pytest.raises(BundleRefused):
        bundles.load("din")
    states = {one["version"]: (one["state"], one["reason"]) for one in bundles.states()}
    assert states[FIRST] == ("UNAVAILABLE", "not loaded")
    assert states[SECOND] == ("READY", "")
    assert states[THIRD][0] == "UNAVAILABLE"
    assert "sha256" in states[THIRD][1]


def test_a_hundred_swaps_never_leave_a_request_without_a_version(folder):
    """Three versions in turn: each is loaded anew, and what it replaces goes."""
    folder.add("din", THIRD)
    bundles, ended, seen = opened(folder), threading.Event(), set()

    def ask():
        while not ended.is_set():
            seen.add(bundles.get("din").version)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for i in range(100):
            bundles.load("din", (FIRST, SECOND, THIRD)[i % 3])
            assert len(versions_of(bundles)) == 2
    finally:
        ended.set()
        asking.join()
    assert seen == {FIRST, SECOND, THIRD}
