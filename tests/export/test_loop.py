"""The loop: an interrupted run, several processes, weights a week old."""

import json
import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

import export.train
import store.clusters
from export.batches import Batcher
from export.loop import SLOW, Interrupted, Module, fit
from export.models import build, list_models
from export.order import Order
from export.run import Run, TrainingFailed, TrainSettings, data_shape
from export.train import train, training_requests

SETTINGS = TrainSettings(epochs=2, days=20, requests_a_batch=128, checkpoint_every=4)
STEPS = 10  # (2 + 3) x 2


class PulledPlug(Exception):
    pass


def interrupted(step: int):
    def progress(done, steps, loss):
        if done == step:
            raise PulledPlug

    return progress


def equal(weights, others) -> bool:
    return weights.keys() == others.keys() and all(torch.equal(value, others[name]) for name, value in weights.items())


@pytest.fixture(scope="module", autouse=True)
def clusters_of_short_lives():
    """The shop's lives are too short for a cluster otherwise."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store.clusters, "APART", 10)
        yield


@pytest.fixture(scope="module")
def whole(shop, tmp_path_factory):
    """Runs that were never interrupted, by model."""
    runs: dict[str, Run] = {}

    def of(name: str) -> Run:
        if name not in runs:
            runs[name] = train(shop, name, SETTINGS, runs=tmp_path_factory.mktemp("whole"))
        return runs[name]

    return of


# bst: dropout; twin_v2: clusters made before the interruption; dien: negatives are drawn; twin: tables follow the weights
@pytest.mark.parametrize(
    ("name", "step", "goes_on_at"), [("din", 4, 1), ("bst", 7, 5), ("twin_v2", 5, 5), ("dien", 5, 5), ("twin", 10, 9)]
)
def test_an_interrupted_run_ends_as_one_that_was_not(shop, whole, tmp_path, name, step, goes_on_at):
    with pytest.raises(PulledPlug):
        train(shop, name, SETTINGS, interrupted(step), runs=tmp_path)
    steps = []
    run = train(shop, name, SETTINGS, lambda done, *_: steps.append(done), runs=tmp_path)
    assert steps == list(range(goes_on_at, STEPS + 1))
    assert equal(run.model.state_dict(), whole(name).model.state_dict())
    same = ("losses", "loss", "steps", "made_from")
    assert {key: run.facts[key] for key in same} == {key: whole(name).facts[key] for key in same}
    assert run.facts["resumed"] == (goes_on_at > 1)
    old = [torch.load(r.folder / "weights_week_old.pt") for r in (run, whole(name))]
    assert equal(*old)


def test_a_run_interrupted_after_its_last_step_is_finished_without_another(shop, whole, tmp_path, monkeypatch):
    settings = replace(SETTINGS, checkpoint_every=STEPS)

    def pulled(path, content):
        if path.name == "run.json":
            raise PulledPlug
        write_json(path, content)

    write_json = export.train.write_json
    train(shop, "din", replace(settings, days=3), runs=tmp_path)
    monkeypatch.setattr(export.train, "write_json", pulled)
    with pytest.raises(PulledPlug):
        train(shop, "din", settings, runs=tmp_path)
    monkeypatch.undo()
    with pytest.raises(TrainingFailed, match=r"run\.json: missing"):  # and not the run before with these weights
        Run.open("shop", "din", shop, runs=tmp_path)
    run = train(shop, "din", settings, lambda *_: pytest.fail("a step"), runs=tmp_path)
    assert equal(run.model.state_dict(), whole("din").model.state_dict())


def test_a_terminated_run_says_how_to_go_on_and_is_not_finished(shop, tmp_path):
    def terminate(done, *_):
        if done == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted, match="terminated: the same command goes on"):
        train(shop, "din", SETTINGS, terminate, runs=tmp_path)
    folder = tmp_path / "shop/din"
    assert [path.name for path in folder.iterdir()] == ["checkpoints"]
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["last.ckpt", "made_from.json"]


def test_another_run_starts_afresh_and_says_so(shop, tmp_path):
    small = TrainSettings(days=6, requests_a_batch=64, checkpoint_every=1)

    def said_and_first_step(**options):
        with pytest.raises(PulledPlug):
            train(shop, "din", small, interrupted(2), runs=tmp_path)
        said, steps = [], []
        options = {"dataset": shop, "settings": small} | options
        train(name="din", progress=lambda done, *_: steps.append(done), runs=tmp_path, say=said.append, **options)
        assert not (tmp_path / "shop/din/checkpoints").exists()
        return [line.partition(": ")[2] for line in said], steps[0]

    anew = ["of other settings, config or data: training starts afresh"]
    assert said_and_first_step() == (["an interrupted run goes on"], 2)
    assert said_and_first_step(settings=replace(small, seed=1)) == (anew, 1)
    assert said_and_first_step(k=20) == (anew, 1)
    assert said_and_first_step(dataset=replace(shop, facts=shop.facts | {"fingerprint": "other"})) == (anew, 1)
    assert said_and_first_step(again=True) == ([], 1)


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (
            ProcessRaisedException("\n-- Process 1\nTraceback\nexport.run.TrainingFailed: loss is nan\n", 1, 7),
            TrainingFailed,
            "loss is",
        ),
        (ProcessRaisedException("\n-- Process 1\nTraceback\nKeyError: 3\n", 1, 7), ProcessRaisedException, "KeyError"),
        (ProcessExitedException("process 1 was killed", 1, 7, -9), Interrupted, "was killed: the same command goes on"),
    ],
)
def test_what_ends_a_process_of_several_is_told_by_the_caller(shop, tmp_path, monkeypatch, error, kind, text):
    def end(*args, **options):
        raise error

    monkeypatch.setattr("lightning.Trainer.fit", end)
    with pytest.raises(kind, match=text) as raised:
        train(shop, "din", SETTINGS, runs=tmp_path)
    assert raised.type is kind
    assert (tmp_path / "shop/din/checkpoints").exists() == (kind is not TrainingFailed)


class Spy(Callback):
    """Leaves what each process saw and ended with, and the weights before one step."""

    def __init__(self, folder, before=None):
        self.folder, self.before, self.seen, self.rates = folder, before, [], []

    def on_train_batch_start(self, trainer, module, batch, index):
        self.seen.append(batch)
        self.rates.append([optimiser.param_groups[0]["lr"] for optimiser in module.optimizers()])
        if index == self.before:
            torch.save(module.model.state_dict(), self.folder / "before.pt")

    def on_train_end(self, trainer, module):
        parameters = dict(module.model.named_parameters())
        sparse = all(parameters[name].grad.is_sparse for name in parameters if name.startswith("items."))
        left = {"seen": self.seen, "weights": parameters, "items_sparse": sparse, "losses": module.losses}
        torch.save(left, self.folder / f"{trainer.global_rank}.pt")


def module_of(shop, settings, folder, name="twin"):
    requests = training_requests(shop, settings.days)
    torch.manual_seed(0)
    batcher = Batcher(shop, requests, build(name, data_shape(shop)), random=np.random.default_rng(0))
    last_week = shop.facts["train_end_ts"] - 7 * 86400
    order = Order(requests.at, last_week, settings.requests_a_batch, settings.epochs, settings.seed, settings.devices)
    return Module(batcher, order, settings, folder)


def test_two_processes_see_every_request_once_and_end_with_equal_weights(shop, tmp_path):
    module = module_of(shop, TrainSettings(days=20, requests_a_batch=32, devices=2), tmp_path)
    before = {name: value.clone() for name, value in module.model.state_dict().items()}
    reports = []
    fit(module, [Spy(tmp_path)], lambda *report: reports.append(report), None)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    requests = [request for process in (first, second) for batch in process["seen"] for request in batch]
    assert sorted(requests) == list(range(len(module.batcher.requests)))
    assert len(first["seen"]) == len(second["seen"]) == len(module.order)
    assert equal(first["weights"], second["weights"])
    assert first["items_sparse"]
    assert first["losses"] == second["losses"]
    now = dict(module.model.named_parameters())  # back in this process
    assert equal(first["weights"], now)
    assert not torch.equal(now["items.tables.0.weight"], before["items.tables.0.weight"])
    assert [report[0] for report in reports] == list(range(1, len(module.order) + 1))
    assert json.loads((tmp_path / "note.json").read_text())["steps"] == len(module.order)


def test_weights_a_week_old_are_those_before_the_last_block_of_the_last_epoch(shop, tmp_path):
    module = module_of(shop, SETTINGS, tmp_path)
    fit(module, [Spy(tmp_path, before=module.order.week_old)], lambda *_: None, None)
    old = torch.load(tmp_path / "weights_week_old.pt")
    assert equal(old, torch.load(tmp_path / "before.pt"))
    assert not torch.equal(old["head.layers.0.weight"], module.model.state_dict()["head.layers.0.weight"])


def test_clusters_follow_the_weights_at_the_start_of_each_block(shop, tmp_path):
    module, made = module_of(shop, SETTINGS, tmp_path, "twin_v2"), []
    refresh = module.batcher.refresh

    def counted(rows=None):
        if rows is None:
            made.append(len(module.losses))
        refresh(rows)

    module.batcher.refresh = counted
    fit(module, [], lambda *_: None, None)
    first, second = module.order.steps
    assert made == [0, first, first + second, first + second + first]


def test_both_learning_rates_fall_to_a_twentieth(shop, tmp_path):
    module = module_of(shop, SETTINGS, tmp_path, "din")
    spy = Spy(tmp_path)
    fit(module, [spy], lambda *_: None, None)
    assert np.allclose(spy.rates, [[3e-3 * (1 - step / STEPS), 1e-3 * (1 - step / STEPS)] for step in range(STEPS)])
    assert module.lr_schedulers()[0].get_last_lr() == [pytest.approx(3e-3 / 20)]


def groups_of(shop, folder, name):
    """By optimiser: its groups, each the rate and the names of what it steps."""
    module = module_of(shop, replace(SETTINGS, learning_rate=2e-3, item_learning_rate=5e-3), folder, name)
    names = {id(parameter): key for key, parameter in module.model.named_parameters()}
    optimisers, _ = module.configure_optimizers()
    groups = [[(group["lr"], [names[id(p)] for p in group["params"]]) for group in o.param_groups] for o in optimisers]
    assert sorted(key for optimiser in groups for _, keys in optimiser for key in keys) == sorted(names.values())
    return groups


def test_what_writes_a_memory_learns_at_a_tenth_of_the_rate(shop, tmp_path):
    (items,), (rest, slow) = groups_of(shop, tmp_path, "mimn")
    assert [rate for rate, _ in (items, rest, slow)] == [5e-3, 2e-3, SLOW * 2e-3]
    assert {key.split(".")[0] for key in items[1]} == {"items"}
    assert {key.split(".")[0] for key in slow[1]} == {"controller", "heads", "writing", "spread", "first_memory"}
    assert SLOW == 0.1


@pytest.mark.parametrize("name", list_models())
def test_the_slow_parts_are_parts_of_the_model_and_without_them_there_is_one_rate(shop, tmp_path, name):
    model = build(name, data_shape(shop))
    parts = {key for key, _ in (*model.named_children(), *model.named_parameters(recurse=False))}
    assert set(model.slow) <= parts - {"items"}
    (items,), others = groups_of(shop, tmp_path, name)
    assert [rate for rate, _ in (items, *others)] == [5e-3, 2e-3, *[2e-4] * bool(model.slow)]
