"""Training, evaluation, bundling: the offline path on own data, from the command line and from code."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from export.__main__ import app, main
from export.batches import Batcher
from export.bundle import make_bundle
from export.evaluate import evaluate, sample_requests, score_requests
from export.models import build, list_models
from export.order import Order
from export.parity import verify
from export.precompute import precompute, precomputed
from export.run import Run, TrainingFailed, TrainSettings, data_shape, finished
from export.start import Start
from export.train import train, training_requests
from store.bundle import ITEM_VECTOR, Bundle, BundleInvalid, versions
from store.schema import Schema
from store.types import UNKNOWN
from tests.export.data import own

SHORT = TrainSettings(days=5, requests_a_batch=64)


@pytest.fixture(scope="module")
def run(shop, tmp_path_factory):
    return train(shop, "twin", TrainSettings(epochs=3), runs=tmp_path_factory.mktemp("runs"))


def test_training_learns_what_users_return_to(shop, run):
    untrained = evaluate(shop, build("twin", data_shape(shop))).figures
    trained = evaluate(shop, run.model).figures
    assert trained.auc > 0.7 > untrained.auc + 0.05


@pytest.mark.parametrize("name", list_models())
def test_two_trainings_with_one_seed_leave_the_same_bytes_and_another_seed_others(shop, tmp_path, name):
    runs = [train(shop, name, dataclasses.replace(SHORT, seed=seed), runs=tmp_path) for seed in (0, 0, 1)]
    one, same, other = ({key: value.numpy().tobytes() for key, value in run.model.state_dict().items()} for run in runs)
    assert runs[0].facts["steps"] == 2
    assert one == same
    assert runs[0].facts["losses"] == runs[1].facts["losses"]
    assert one["head.layers.0.weight"] != other["head.layers.0.weight"]


def test_a_run_is_opened_as_it_was_left(shop, run):
    opened = Run.open("shop", "twin", shop, runs=run.folder.parent.parent)
    assert all(torch.equal(value, run.model.state_dict()[name]) for name, value in opened.model.state_dict().items())
    assert opened.facts["settings"] == dataclasses.asdict(TrainSettings(epochs=3))


def test_a_run_of_other_data_is_refused(shop, run):
    other = dataclasses.replace(shop, facts=shop.facts | {"fingerprint": "other"})
    with pytest.raises(TrainingFailed, match="train again"):
        Run.open("shop", "twin", other, runs=run.folder.parent.parent)


def test_a_missing_run_names_the_command_that_makes_it(shop, tmp_path):
    with pytest.raises(TrainingFailed, match="python -m export train eta --data shop"):
        Run.open("shop", "eta", shop, runs=tmp_path)


def test_a_loss_that_is_not_finite_stops_training_and_leaves_no_run(shop, tmp_path):
    wild = TrainSettings(item_learning_rate=1e30, learning_rate=1e30, epochs=3, checkpoint_every=1)
    with pytest.raises(TrainingFailed, match=r"loss is nan at step \d+ of \d+, learning rates \d.*e\+\d+ and"):
        train(shop, "din", wild, runs=tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_weights_that_are_not_finite_after_the_last_step_are_no_run(shop, tmp_path, monkeypatch):
    def last_step(done, steps, loss):
        if done == steps:
            models[0].head.layers[0].bias.data[0] = float("nan")

    models = []
    monkeypatch.setattr("export.train.build", lambda *args, **config: models.append(build(*args, **config)) or models[0])
    with pytest.raises(TrainingFailed, match="a weight is not finite after the last of"):
        train(shop, "din", SHORT, last_step, runs=tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_run_that_fails_leaves_the_one_before_it(shop, tmp_path):
    before = train(shop, "din", SHORT, runs=tmp_path)
    with pytest.raises(TrainingFailed):
        train(shop, "din", dataclasses.replace(SHORT, learning_rate=1e30, item_learning_rate=1e30, epochs=9), runs=tmp_path)
    opened = Run.open("shop", "din", shop, runs=tmp_path)
    assert opened.facts == json.loads(json.dumps(before.facts))


def test_run_json_says_how_and_from_what_it_was_trained(shop, tmp_path):
    settings = dataclasses.replace(SHORT, epochs=4, requests_a_batch=2)
    run = train(shop, "din", settings, runs=tmp_path, k=20)
    facts = json.loads((run.folder / "run.json").read_text())
    assert facts["settings"] == dataclasses.asdict(settings)
    assert (facts["config"]["k"], facts["model"], facts["data"]) == (20, "din", "shop")
    assert facts["fingerprint"] == shop.facts["fingerprint"]
    assert facts["versions"]["torch"] == torch.__version__
    assert facts["steps"] > 200 == len(facts["losses"])  # thinned
    assert facts["losses"][-1] == [facts["steps"], pytest.approx(facts["loss"], abs=0.3)]
    assert (facts["started_from"], facts["weights_week_old"], facts["resumed"]) == (None, None, 0)
    assert facts["seconds"] > 0


def test_a_finished_run_is_that_of_the_same_settings_config_and_data(shop, tmp_path):
    assert finished(shop, "din", SHORT, tmp_path) is None
    run = train(shop, "din", SHORT, runs=tmp_path, k=20)
    again = finished(shop, "din", SHORT, tmp_path, k=20)
    assert again is not None
    assert again.facts == json.loads(json.dumps(run.facts))
    assert finished(shop, "din", SHORT, tmp_path) is None
    assert finished(shop, "din", dataclasses.replace(SHORT, seed=1), tmp_path, k=20) is None
    other = dataclasses.replace(shop, facts=shop.facts | {"fingerprint": "other"})
    assert finished(other, "din", SHORT, tmp_path, k=20) is None
    assert finished(shop, "eta", SHORT, tmp_path, k=20) is None
    train(shop, "din", SHORT, runs=tmp_path, start=Start.open(run.folder))
    assert finished(shop, "din", SHORT, tmp_path, k=20) is None  # continued from weights, though settings and config are equal


def test_a_run_of_another_version_of_the_model_is_trained_again(shop, tmp_path):
    run = train(shop, "din", SHORT, runs=tmp_path)
    torch.save({"gone": torch.zeros(1)}, run.folder / "weights.pt")
    with pytest.raises(TrainingFailed, match="weights of another version of din, train again"):
        Run.open("shop", "din", shop, runs=tmp_path)
    assert finished(shop, "din", SHORT, tmp_path) is None
    run.note(config=run.facts["config"] | {"gone": 1})
    with pytest.raises(TrainingFailed, match="another version of din"):
        Run.open("shop", "din", shop, runs=tmp_path)


def test_tuning_never_sees_the_validation_split(shop):
    end = shop.facts["validation_ts"]
    assert training_requests(shop, None, tune=True).at.max() < end
    assert shop.requests["validation"].at.min() >= end


def test_days_keep_the_last_impressions_of_the_training_split(shop):
    some = training_requests(shop, days=10)
    assert 0 < len(some) < len(training_requests(shop, None))
    assert some.at.min() >= shop.facts["train_end_ts"] - 10 * 86400


def test_the_last_seven_days_are_trained_on_last(shop, tmp_path, monkeypatch):
    begins = []
    monkeypatch.setattr(
        "export.train.Order", lambda at, last_week, *rest: begins.append(last_week) or Order(at, last_week, *rest)
    )
    settings = dataclasses.replace(SHORT, days=10)
    facts = [train(shop, "din", dataclasses.replace(settings, tune=tune), runs=tmp_path).facts for tune in (False, True)]
    assert begins == [shop.facts["train_end_ts"] - 7 * 86400, shop.facts["validation_ts"] - 7 * 86400]
    assert {fact["weights_week_old"] for fact in facts} == {"weights_week_old.pt"}


def test_no_impression_to_train_on_is_an_error(shop, tmp_path):
    empty = dataclasses.replace(shop, facts=shop.facts | {"train_end_ts": 2_000_000_000})
    with pytest.raises(TrainingFailed, match="0 training requests"):
        train(empty, "din", TrainSettings(days=1), runs=tmp_path)


def test_training_sees_some_occurrences_as_the_unknown_item(shop):
    batcher = Batcher(shop, shop.requests["train"], build("din", data_shape(shop)), random=np.random.default_rng(0))
    rows = np.concatenate([batcher._read(r)[1].row for r in range(300)])
    assert (rows == UNKNOWN).mean() == pytest.approx(0.01, abs=0.005)


def test_training_reads_the_newest_behaviours_only_and_evaluation_the_whole_life(shop):
    requests, random = shop.requests["train"], np.random.default_rng(0)
    own, short = (build("mimn", data_shape(shop), **config) for config in ({}, {"trained_length": 10}))
    assert (Batcher(shop, requests, own, random=random).newest, Batcher(shop, requests, own).newest) == (100, None)
    assert Batcher(shop, requests, build("sdim", data_shape(shop)), random=random).newest is None
    training, evaluating = Batcher(shop, requests, short, random=random), Batcher(shop, requests, short)
    for request in range(len(requests)):
        read, whole = training._read(request)[1], evaluating._read(request)[1]
        assert np.array_equal(whole.ts, shop.history(int(requests.user[request]), int(requests.at[request])).ts)
        assert np.array_equal(read.ts, whole.ts[-10:])
    assert len(whole) > len(read) == 10


def test_the_loss_of_a_batch_holds_the_l2_of_its_items_over_its_impressions(shop):
    """DIN, eq. 6-7: lambda a batch of one impression; the rows are those that the batch looks up."""
    batch, losses = range(200, 208), []
    for item_l2 in (0.0, 0.01):
        torch.manual_seed(0)
        model = build("din", data_shape(shop), item_l2=item_l2)
        batcher = Batcher(shop, shop.requests["train"], model, random=np.random.default_rng(0))
        losses.append(float(batcher.loss(batch).detach()))
    again = Batcher(shop, shop.requests["train"], model, random=np.random.default_rng(0))
    read = [again._read(request) for request in batch]  # the same occurrences are forgotten
    rows = np.unique(np.concatenate([np.append(behaviours.row[-50:], candidates.row) for candidates, behaviours, _ in read]))
    penalty = float(model.items.minibatch_l2(again.features[rows], again.counts).detach())
    impressions = sum(len(candidates.row) for candidates, *_ in read)
    assert len(batch) < impressions
    assert losses[1] - losses[0] == pytest.approx(0.01 / impressions * penalty, rel=1e-3)


@pytest.mark.parametrize("name", list_models())
def test_a_batch_scores_requests_as_they_score_alone(shop, name):
    model = build(name, data_shape(shop)).eval()
    batcher = Batcher(shop, shop.requests["test"], model)
    batcher.refresh()
    with torch.inference_mode():
        together = batcher.scores(range(6))
        alone = [batcher.scores([r])[0] for r in range(6)]
    assert all(np.allclose(a, b, atol=1e-6) for a, b in zip(together, alone, strict=True))


def test_a_sample_is_seeded_and_says_what_it_is(shop):
    requests, described = sample_requests(shop.requests["test"], 5)
    assert len(requests) == 5
    assert described == f"5 of {len(shop.requests['test'])} test requests, seed 7"
    assert (requests.row == sample_requests(shop.requests["test"], 5)[0].row).all()


def test_scores_of_an_evaluation_are_probabilities_in_the_order_of_the_requests(shop, run):
    requests = shop.requests["test"]
    scores = score_requests(shop, requests, run.model)
    assert ((scores > 0) & (scores < 1)).all()
    backwards, first = requests.select(np.arange(len(requests))[::-1]), len(requests.items(0)[0])
    assert np.allclose(score_requests(shop, backwards, run.model)[-first:], scores[:first], atol=1e-6)


def test_tables_stand_for_every_row(shop, run):
    folder = precompute(shop, run)
    names = ["cross_bias", ITEM_VECTOR, "key_projection", "query_projection"]
    assert sorted(path.name for path in folder.iterdir()) == sorted([*(f"{name}.npy" for name in names), "made_by.json"])
    vectors = np.load(folder / f"{ITEM_VECTOR}.npy")
    assert vectors.shape == (shop.registry.item_rows, 64)
    assert (vectors[0] == 0).all()


def test_a_bundle_takes_precomputed_tables_of_its_parameters_and_makes_others_anew(shop, run):
    folder = precompute(shop, run)
    marked = np.load(folder / f"{ITEM_VECTOR}.npy")
    marked[5] = 7
    np.save(folder / f"{ITEM_VECTOR}.npy", marked)
    assert (precomputed(shop, run)[ITEM_VECTOR][5] == 7).all()  # as they are
    own = run.model.items.tables[0].weight.detach().clone()
    with torch.no_grad():
        run.model.items.tables[0].weight[2] += 1
    try:
        assert not (precomputed(shop, run)[ITEM_VECTOR][5] == 7).any()
    finally:
        with torch.no_grad():
            run.model.items.tables[0].weight.copy_(own)
    assert not (precomputed(shop, run)[ITEM_VECTOR][5] == 7).any()  # those on disk are of the changed ones


def test_a_bundle_of_own_data_is_what_was_trained_and_the_newest_versions_stay(shop, run, tmp_path, monkeypatch):
    monkeypatch.setattr("export.bundle.KEPT_VERSIONS", 1)
    old, bundle = make_bundle(shop, run, tmp_path), make_bundle(shop, run, tmp_path)
    assert versions(tmp_path / "twin") == [bundle.manifest.version] > [old.manifest.version]
    assert verify(bundle) < 1e-5
    assert bundle.manifest.data == "shop"
    assert {spec.name for spec in bundle.manifest.inputs} == {ITEM_VECTOR, *run.model.input_names}
    Bundle(bundle.folder)

    bundle.golden.scores[:] += 0.01
    with pytest.raises(ValueError, match=r"golden scores differ by 0\.01"):
        verify(bundle)


def test_the_command_line_builds_from_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own.write(tmp_path / "mine")
    result = CliRunner().invoke(app, ["build", "twin", "--data", "mine", "--name", "my_shop", "--days", "20"])
    assert result.exit_code == 0, result.output
    manifest = json.loads(next((tmp_path / "bundles/twin").glob("*/manifest.json")).read_text())
    assert (manifest["data"], manifest["quality"]["impressions"] > 0) == ("my_shop", True)
    assert (tmp_path / "runs/models/my_shop/twin/run.json").exists()
    verified = CliRunner().invoke(app, ["verify", "twin", "--data", "mine", "--name", "my_shop"])
    assert verified.exit_code == 0, verified.output
    with pytest.raises(BundleInvalid, match="version none of complete_journey"):
        CliRunner().invoke(app, ["verify", "twin"], catch_exceptions=False)


def test_a_broken_folder_is_one_line_on_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    own.write(tmp_path / "mine", own.interactions().drop(columns="ts"))
    monkeypatch.setattr("sys.argv", ["export", "train", "twin", "--data", "mine"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    output = capsys.readouterr().err
    assert "interactions.parquet: column ts is missing" in output
    assert "Traceback" not in output
    assert not (tmp_path / "runs/data/mine").exists()


def test_the_options_of_train_are_its_settings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own.write(tmp_path / "mine")
    call = ["train", "din", "--data", "mine", "--days", "5", "--threads", "1"]
    given = ["--seed", "3", "--tune", "--patience", "2", "--evaluate-every", "4", "--checkpoint-every", "5", "--devices", "1"]
    assert CliRunner().invoke(app, [*call, *given]).exit_code == 0
    facts = json.loads((tmp_path / "runs/models/mine/din/run.json").read_text())
    expected = {"days": 5, "seed": 3, "tune": True, "patience": 2, "evaluate_every": 4, "checkpoint_every": 5, "devices": 1}
    assert facts["settings"].items() >= expected.items()
    assert len(facts["history"]) >= 2

    result = CliRunner().invoke(app, [*call, "--from", "runs/models/mine/din"])
    assert result.exit_code == 0, result.output
    facts = json.loads((tmp_path / "runs/models/mine/din/run.json").read_text())
    assert facts["started_from"]["new_values"] == {"item": 0, "category": 0, "brand": 0}
    with pytest.raises(TrainingFailed, match=r"run\.json: missing"):
        CliRunner().invoke(app, [*call, "--from", "mine"], catch_exceptions=False)


def test_an_unknown_model_is_refused_before_anything_is_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["train", "dim"])
    assert result.exit_code == 2
    assert not (tmp_path / "runs").exists()


def test_versions_of_another_data_set_are_not_pruned(shop, run, tmp_path, monkeypatch):
    monkeypatch.setattr("export.bundle.KEPT_VERSIONS", 1)
    first = make_bundle(shop, run, tmp_path)
    other = dataclasses.replace(
        shop,
        schema=Schema.model_validate(shop.schema.model_dump(exclude={"version"}) | {"data": "other"}),
        registry=dataclasses.replace(shop.registry, data="other"),
    )
    second = make_bundle(other, run, tmp_path)
    assert versions(tmp_path / "twin") == [first.manifest.version, second.manifest.version]
