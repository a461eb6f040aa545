"""The comparison with FuxiCTR: our impressions in its form, its time, its results.

The conversion and the course of a comparison are tested without the package, with a small model in the
place of the zoo's; the zoo itself only where it is installed.
"""

import dataclasses
import importlib.util
import json
import sys

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from export import fuxictr, fuxictr_ours
from export.__main__ import app
from export.data.prepare import prepare
from export.data.requests import from_impressions
from export.evaluate import sample_requests, score_requests
from export.fuxictr import CompareSettings, compare
from export.fuxictr_batches import LABEL, ZooImpressions
from export.fuxictr_ours import beside
from export.fuxictr_zoo import TWINS, build_twin, options_of
from export.run import Run
from export.train import TrainingFailed, training_requests
from tests.export.data import own

L = 20
SMALL = CompareSettings(length=L, impressions_a_batch=64, sample=40)
INSTALLED = importlib.util.find_spec("fuxictr") is not None


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop")
    return prepare(str(own.write(folder / "shop")), into=folder / "data")


@pytest.fixture(scope="module")
def uneven(shop):
    """Training requests of unlike sizes: those of the shop without every third impression."""
    train = shop.requests["train"]
    request = np.repeat(np.arange(len(train)), np.diff(train.start))
    kept = np.flatnonzero(np.arange(len(request)) % 3)
    request = request[kept]
    return from_impressions(train.user[request], train.at[request], train.row[kept], train.label[kept], train.context[request])


def past(dataset, user, at):
    """Rows of a user's behaviours before a time, found one by one."""
    span = range(dataset.user_start[user], dataset.user_start[user + 1])
    return [int(dataset.row[i]) for i in span if dataset.ts[i] < at]


def test_behaviours_are_the_newest_strictly_before_the_request_oldest_first(shop, uneven):
    requests = uneven
    impressions = ZooImpressions(shop, requests, L)
    chosen = np.arange(0, len(impressions), 7)
    rows, mask = impressions.rows(chosen)
    lengths = set()
    for place, impression in enumerate(chosen):
        request = int(np.searchsorted(requests.start, impression, side="right")) - 1
        newest = past(shop, requests.user[request], requests.at[request])[-L:]
        lengths.add(len(newest))
        assert rows[place, L - len(newest) : L].tolist() == newest
        assert mask[place].tolist() == [False] * (L - len(newest)) + [True] * len(newest)
        assert not rows[place, : L - len(newest)].any()
    assert {0, L} < lengths  # the empty user, the longer history, and between


def test_what_was_bought_in_the_request_is_not_in_its_history(shop):
    requests = shop.requests["train"]
    bought = np.flatnonzero(requests.label)[:200]
    _, mask = ZooImpressions(shop, requests, 10_000).rows(bought)
    request = np.searchsorted(requests.start, bought, side="right") - 1
    for place, r in enumerate(request):
        first, end = shop.user_start[requests.user[r]], shop.user_start[requests.user[r] + 1]
        assert requests.at[r] in shop.ts[first:end]  # the purchase itself is a behaviour, only not yet
        assert mask[place].sum() == (shop.ts[first:end] < requests.at[r]).sum()


def test_histories_can_begin_at_place_0(shop):
    requests = shop.requests["train"]
    chosen = np.arange(0, len(requests.row), 11)
    before, mask_before = ZooImpressions(shop, requests, L).rows(chosen)
    after, mask_after = ZooImpressions(shop, requests, L, padding_first=False).rows(chosen)
    for one, other, m, n in zip(before, after, mask_before, mask_after, strict=True):
        real = m.sum()
        assert one[:L][m].tolist() == other[:L][n].tolist()
        assert n.tolist() == [True] * real + [False] * (L - real)
    assert (before[:, -1] == after[:, -1]).all()


def test_impressions_and_labels_are_those_of_our_requests(shop, uneven):
    requests = uneven.select(np.arange(0, len(uneven), 9))
    impressions = ZooImpressions(shop, requests, L)
    assert len(impressions) == len(requests.row)
    labels, targets, context = [], [], []
    for part in impressions.parts(64):
        scalars, items, mask = impressions.batch(part)
        labels.append(scalars[LABEL])
        columns = torch.stack([items[f"item_{f}"] for f in range(len(shop.items.names))], dim=1)
        targets.append(columns.view(len(mask), L + 1, -1)[:, -1])
        context.append(torch.stack([scalars[f"context_{f}"] for f in range(requests.context.shape[1])], dim=1))
    assert torch.cat(labels).tolist() == requests.label.tolist()
    assert torch.cat(targets).tolist() == shop.items.value[requests.row].tolist()
    assert torch.cat(context).tolist() == np.repeat(requests.context, np.diff(requests.start), axis=0).tolist()


def test_item_columns_hold_the_features_of_behaviours_and_target(shop):
    impressions = ZooImpressions(shop, shop.requests["train"], L)
    chosen = np.arange(300, 330)
    rows, mask = impressions.rows(chosen)
    _, items, float_mask = impressions.batch(chosen)
    assert float_mask.tolist() == mask.astype(float).tolist()
    for f in range(len(shop.items.names)):
        assert items[f"item_{f}"].view(30, L + 1).tolist() == shop.items.value[rows, f].tolist()


def test_parts_hold_every_impression_once_and_none_is_much_smaller(shop):
    impressions = ZooImpressions(shop, shop.requests["train"], L)
    order = np.random.default_rng(0).permutation(len(impressions))[: 2 * 64 + 1]
    parts = impressions.parts(64, order)
    assert np.concatenate(parts).tolist() == order.tolist()
    sizes = {len(part) for part in parts}
    assert max(sizes) <= 64
    assert max(sizes) - min(sizes) <= 1


class CountingModel:
    """In the place of a zoo model: scores how often the target's id stands among the behaviours."""

    def __init__(self, clock=None, loss=0.5):
        self.clock, self.loss, self.labels = clock, loss, []

    def train(self):
        return self

    def train_step(self, batch):
        self.labels += batch[0][LABEL].tolist()
        if self.clock is not None:
            self.clock.now += 1
        return torch.tensor(self.loss)

    def predict(self, batches):
        scores = []
        for _, items, mask in batches:
            item = items["item_0"].view(len(mask), -1)
            scores.append(((item[:, :-1] == item[:, -1:]) * mask).sum(dim=1) / mask.shape[1])
        return torch.cat(scores).double().numpy()


class Clock:
    """Time that passes only when told to."""

    now = 0.0

    def monotonic(self):
        return self.now


@pytest.fixture
def zoo(monkeypatch):
    """Models that the comparison built, by name; the clock stands unless one of them is given it."""
    built = {}

    def build(dataset, name, options, seed):
        built.setdefault(name, []).append(CountingModel())
        return built[name][-1]

    monkeypatch.setattr(fuxictr, "build_twin", build)
    monkeypatch.setattr(fuxictr, "version", lambda package: "0.0.0")
    return built


def test_a_comparison_trains_on_each_impression_and_leaves_its_figures(shop, zoo, tmp_path):
    result = compare(shop, ["din"], SMALL, runs=tmp_path)["din"]
    train = training_requests(shop, None)
    assert sorted(zoo["din"][0].labels) == sorted(train.label.tolist())
    assert zoo["din"][0].labels != train.label.tolist()  # shuffled
    assert result["impressions"] == result["planned"] == len(train.row)
    assert result["quality"]["auc"] > 0.6
    assert result["quality"]["sample"].startswith("40 of ")
    assert result["quality"]["impressions"] == len(sample_requests(shop.requests["test"], 40)[0].row)
    assert result["defects"]
    assert json.loads((tmp_path / shop.schema.data / "din.json").read_text()) == result


def test_days_and_epochs_are_those_of_our_training(shop, zoo, tmp_path):
    settings = dataclasses.replace(SMALL, days=30, epochs=2)
    result = compare(shop, ["eta"], settings, runs=tmp_path)["eta"]
    assert result["impressions"] == 2 * len(training_requests(shop, 30).row) < 2 * len(training_requests(shop, None).row)


def test_finished_twins_are_reused_until_told_otherwise_or_settings_differ(shop, zoo, tmp_path):
    first = compare(shop, ["din", "eta"], SMALL, runs=tmp_path)
    assert compare(shop, ["eta", "din"], SMALL, runs=tmp_path) == first
    assert [len(zoo[name]) for name in ("din", "eta")] == [1, 1]
    compare(shop, ["din"], dataclasses.replace(SMALL, length=10), runs=tmp_path)
    assert [len(zoo[name]) for name in ("din", "eta")] == [2, 1]
    compare(shop, ["eta"], SMALL, again=True, runs=tmp_path)
    assert [len(zoo[name]) for name in ("din", "eta")] == [2, 2]


def test_ours_is_trained_on_the_same_days_and_cut_to_the_same_length(shop, zoo, monkeypatch, tmp_path):
    settings = dataclasses.replace(SMALL, days=30, length=4)
    compare(shop, ["din"], settings, runs=tmp_path)
    ours = beside(shop, "din", settings, runs=tmp_path)
    run = Run.open(shop.schema.data, "din", shop, tmp_path / "ours")
    assert (run.facts["settings"]["days"], run.facts["config"]["trained_length"]) == (30, 4)
    test, _ = sample_requests(shop.requests["test"], settings.sample)
    cut, whole = (roc_auc_score(test.label, score_requests(shop, test, run.model, newest=newest)) for newest in (4, None))
    assert ours["auc"] == pytest.approx(cut)
    assert ours["auc"] != pytest.approx(whole)
    kept = json.loads((tmp_path / shop.schema.data / "din.json").read_text())
    assert kept["ours"] == ours
    assert kept["quality"]["auc"] != ours["auc"]
    assert compare(shop, ["din"], settings, runs=tmp_path)["din"] == kept  # and the twin's own result is still good

    monkeypatch.setattr(fuxictr_ours, "train", None)
    assert beside(shop, "din", settings, runs=tmp_path) == ours


def test_a_result_of_other_data_is_not_reused(shop, zoo, tmp_path):
    compare(shop, ["din"], SMALL, runs=tmp_path)
    changed = dataclasses.replace(shop, facts={**shop.facts, "fingerprint": "another"})
    assert compare(changed, ["din"], SMALL, runs=tmp_path)["din"]["fingerprint"] == "another"
    assert len(zoo["din"]) == 2


def test_twins_share_the_time_and_reused_ones_have_had_theirs(shop, monkeypatch, tmp_path):
    clock, shares = Clock(), {}

    def run(dataset, name, settings, seconds):
        shares[name] = seconds
        clock.now += 60  # each takes a minute, whatever it was given
        facts = {"fingerprint": shop.facts["fingerprint"], "settings": dataclasses.asdict(settings)}
        return {**facts, "options": options_of(name, L, SMALL.learning_rate), "seconds": 60}

    monkeypatch.setattr(fuxictr, "time", clock)
    monkeypatch.setattr(fuxictr, "_run", run)
    settings = dataclasses.replace(SMALL, minutes=9)
    compare(shop, ["dien", "din", "eta"], settings, runs=tmp_path)
    assert shares == {"eta": 180, "din": 240, "dien": 420}  # 9 / 3, 8 / 2, 7 / 1 minutes; the slow one last
    compare(shop, ["dien", "din", "eta", "twin"], settings, runs=tmp_path)
    assert shares["twin"] == (9 - 3) * 60


def test_training_ends_when_its_time_is_over_and_says_so(shop, monkeypatch, tmp_path):
    clock = Clock()
    monkeypatch.setattr(fuxictr, "time", clock)
    monkeypatch.setattr(fuxictr, "version", lambda package: "0.0.0")
    monkeypatch.setattr(fuxictr, "build_twin", lambda *_: CountingModel(clock))
    result = compare(shop, ["din"], dataclasses.replace(SMALL, minutes=5.5 / 60), runs=tmp_path)["din"]
    assert 6 * 63 <= result["impressions"] <= 6 * 64  # the step that begins in time is finished
    assert result["impressions"] < result["planned"]
    assert result["quality"]["auc"] > 0.6


def test_no_time_at_all_is_an_error_and_no_result(shop, zoo, tmp_path):
    with pytest.raises(TrainingFailed, match="--minutes"):
        compare(shop, ["din"], dataclasses.replace(SMALL, minutes=0), runs=tmp_path)
    assert not list(tmp_path.rglob("*.json"))


def test_a_loss_that_is_no_number_ends_the_comparison(shop, monkeypatch, tmp_path):
    monkeypatch.setattr(fuxictr, "build_twin", lambda *_: CountingModel(loss=float("nan")))
    with pytest.raises(TrainingFailed, match="loss is nan at step 1"):
        compare(shop, ["din"], SMALL, runs=tmp_path)


def test_sizes_are_ours_where_the_package_has_them():
    options = options_of("twin", 200, 1e-3)
    sizes = {"embedding_dim": 64, "dnn_hidden_units": [200, 80], "attention_dim": 64, "num_heads": 4, "topk": 100}
    assert sizes.items() <= options.items()
    assert options["short_seq_len"] == 51  # its slice [-n:-1] leaves 50
    assert options_of("twin", L, 1e-3)["short_seq_len"] == L  # longer than L, its slices differ in length
    assert all(options_of(name, 200, 1e-3)["reuse_hash"] for name in ("eta", "sdim"))


def test_without_the_package_the_error_says_what_to_install(shop, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "fuxictr", None)
    with pytest.raises(TrainingFailed, match=r"pip install '\.\[compare\]'"):
        compare(shop, ["din"], SMALL, runs=tmp_path)


def test_a_model_that_the_package_has_not_is_refused_by_name():
    result = CliRunner().invoke(app, ["compare", "mimn"], env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert "mimn: FuxiCTR has twin, sim_soft" in result.output


def test_the_command_prints_each_model_and_how_far_it_came(monkeypatch):
    result = {
        "version": "1.2", "impressions": 1000, "planned": 2000, "seconds": 3.5,
        "quality": {"auc": 0.71234, "gauc": None, "sample": "all 5 test requests"},
    }  # fmt: skip
    asked = {}

    def compared(dataset, names, settings, again):
        asked.update(dataset=dataset, names=names, settings=settings, again=again)
        return dict.fromkeys(names, result)

    monkeypatch.setattr("export.__main__.prepare", lambda data, name: data)
    monkeypatch.setattr("export.__main__.compare", compared)
    monkeypatch.setattr("export.__main__.beside", lambda *_: {"auc": 0.75, "gauc": None})
    arguments = ["compare", "eta", "din", "--days", "28", "--minutes", "30", "--length", "100", "--sample", "50", "--again"]
    output = " ".join(CliRunner().invoke(app, arguments).output.split())  # the terminal's line breaks
    assert asked == {
        "dataset": "complete_journey", "names": ["eta", "din"], "again": True,
        "settings": CompareSettings(days=28, minutes=30, length=100, sample=50),
    }  # fmt: skip
    assert output.count("of FuxiCTR 1.2: AUC 0.7123 GAUC nan") == 2
    assert "1,000 of 2,000 impressions" in output
    assert "eta, ours cut to 100: AUC 0.7500 GAUC nan" in output
    assert CliRunner().invoke(app, ["compare"]).exit_code == 0
    assert asked["names"] == list(TWINS)
    assert asked["settings"] == CompareSettings()


@pytest.mark.skipif(not INSTALLED, reason="FuxiCTR is not installed (extra compare)")
@pytest.mark.parametrize("name", TWINS)
def test_the_zoos_own_model_trains_on_our_impressions(shop, name, tmp_path):
    settings = dataclasses.replace(SMALL, epochs=2, learning_rate=0.01)
    result = compare(shop, [name], settings, runs=tmp_path)[name]
    assert result["impressions"] == result["planned"]
    assert result["quality"]["auc"] > 0.55
    model = build_twin(shop, name, result["options"], seed=0)
    tables = [m for m in model.modules() if isinstance(m, torch.nn.Embedding)]
    assert sum(table.embedding_dim for table in tables) == 64 + 2 * 4  # ours: 64 of the item, 4 for each of hour and weekday
