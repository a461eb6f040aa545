"""A shop in a folder of its own, a finished report on it, and a runner that trains nothing it is not told to."""

import json
import shutil

import pytest
from typer.testing import CliRunner

from export.__main__ import app
from export.data.prepare import prepare
from export.report.jobs import ReportSettings
from export.report.report import report
from tests.export.data import own

MODELS = ["din", "sim_hard", "twin"]
FUXICTR = {
    "model": "din", "package": "fuxictr", "version": "2.3.10", "settings": {"length": 200}, "impressions": 90, "planned": 100,
    "seconds": 12.5, "quality": {"auc": 0.6543, "gauc": 0.65, "log_loss": 0.5, "impressions": 9, "users": 3, "sample": "9 of 10"},
    "differences": ["reads no time gaps"], "ours": {"auc": 0.7123, "gauc": None}, "defects": ["padding <b>counts</b>"],
}  # fmt: skip


class InProcess:
    """Runs jobs as `export.report.jobs.run` does, but in this process; remembers the commands."""

    def __init__(self):
        self.commands = []

    def __call__(self, jobs, at_once, logs, console):
        for job in jobs:
            for arguments in job.steps.values():
                self.commands.append(arguments)
                result = CliRunner().invoke(app, arguments, catch_exceptions=False)
                assert result.exit_code == 0, result.output
                progress = [json.loads(line) for line in result.stdout.splitlines()]
                assert {len(told) for told in progress} == {3}
                assert progress[-1][0] == progress[-1][1]


@pytest.fixture(scope="session")
def shop_folder(tmp_path_factory):
    """An own-data folder of ten users with some 250 behaviours each at the test."""
    table = own.interactions()
    table["user_id"] = [f"u{i % 10}" for i in range(len(table))]
    return own.write(tmp_path_factory.mktemp("own") / "shop", table)


@pytest.fixture(scope="session")
def asked(shop_folder):
    return ReportSettings(str(shop_folder), days=40, sample=40, consistency_requests=5)


@pytest.fixture(scope="session")
def finished(tmp_path_factory, asked):
    """A working directory with a report of three models beside one public twin; and the commands that made it."""
    folder, runner = tmp_path_factory.mktemp("finished"), InProcess()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        shop = prepare(asked.data)
        public = folder / "runs/fuxictr/shop"
        public.mkdir(parents=True)
        (public / "din.json").write_text(json.dumps(FUXICTR | {"fingerprint": shop.facts["fingerprint"]}))
        (public / "eta.json").write_text(json.dumps(FUXICTR | {"fingerprint": "of other data"}))
        report(shop, MODELS, asked, run_jobs=runner)
    return folder, runner.commands


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The working directory, empty: runs and reports are written below it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def shop(here, shop_folder):
    return prepare(str(shop_folder))


@pytest.fixture
def made(here, finished):
    """A copy of the finished report, with its runs, in the working directory."""
    shutil.copytree(finished[0], here, dirs_exist_ok=True)
    return here / "export/reports/shop"


@pytest.fixture
def runner():
    return InProcess()
