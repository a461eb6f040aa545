import json
import re
import sys

import pytest
from typer.testing import CliRunner

from store.__main__ import app, main
from store.load import BEHAVIOURS_FILE, SCHEMA_FILE
from tests.service.tiny import Tiny

EVENTS = [("ann", 2, 1_700_000_000, 1), ("ann", 3, 1_700_000_060, 2), ("ann", 4, 1_700_000_120, 0), ("bob", 5, 5, 0)]


@pytest.fixture
def command(store_url, data_name):
    """Run a command on the session's store and this test's data set; the text it prints."""

    def run(name, *arguments, data=data_name):
        result = CliRunner().invoke(app, [name, *arguments, "--data", data, "--url", store_url])
        assert result.exception is None, result.exception
        assert result.exit_code == 0
        return result.output

    return run


@pytest.fixture
def loaded(prepare, command):
    """A loaded data set; the command that looks at it."""
    prepared = prepare(EVENTS)
    command("load", "--prepared", str(prepared.folder.parent))
    return command


@pytest.fixture
def error_of(monkeypatch, capsys, store_url, data_name):
    """Run a command that must fail, as `python -m store` would; its error, without a progress bar above it."""

    def run(*arguments, url=store_url):
        monkeypatch.setattr(sys, "argv", ["store", *arguments, "--data", data_name, "--url", url])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 1
        return re.sub(r"^load trees.*\n", "", capsys.readouterr().out)

    return run


def cells(output, first):
    """The cells of the table's row that begins with `first`."""
    (line,) = [line for line in output.splitlines() if re.match(rf"\W*{re.escape(first)}\s", line)]
    return [cell.strip() for cell in re.split("[│┃]", line) if cell.strip()]


def test_load_says_how_many_behaviours_are_in_the_store(prepare, command, data_name):
    folder = prepare(EVENTS).folder.parent
    assert f"4 behaviours of {data_name} are in the store" in command("load", "--prepared", str(folder))


def test_load_says_what_changed_and_at_which_rate(prepare, command):
    folder = prepare(EVENTS).folder.parent
    for changed in (4, 0):
        output = " ".join(command("load", "--prepared", str(folder)).split())
        assert f"{changed} of them in new or changed trees" in output
        assert re.search(r"[\d.]+ s for the trees, [\d,]+ behaviours a second", output)


def test_load_takes_behaviours_from_elsewhere(prepare, command, tmp_path):
    prepared = prepare(EVENTS)
    elsewhere = (prepared.folder / BEHAVIOURS_FILE).rename(tmp_path / "elsewhere.parquet")
    command("load", "--prepared", str(prepared.folder.parent), "--behaviours", str(elsewhere))
    assert "ann: 3 behaviours" in command("show", "ann")


def test_load_keeps_to_the_caps(prepare, command):
    prepared = prepare([("ann", 2, second, 0) for second in range(1_100)])
    command("load", "--prepared", str(prepared.folder.parent), "--cap-per-user", "1000")
    assert "ann: 1,000 behaviours" in command("show", "ann")


def test_load_may_be_run_again(prepare, command):
    folder = prepare(EVENTS).folder.parent
    command("load", "--prepared", str(folder))
    before = command("show", "ann")
    command("load", "--prepared", str(folder))
    assert command("show", "ann") == before


def test_stats_counts_users_and_items(loaded):
    output = loaded("stats")
    assert cells(output, "users")[-1] == "2"
    assert cells(output, "items")[-1] == "4"


def test_stats_names_schema_and_registry(loaded, prepare):
    prepared = prepare(EVENTS)
    output = loaded("stats")
    assert cells(output, "schema")[-1] == prepared.schema.version
    assert cells(output, "registry")[-1] == prepared.registry.registry_id


def test_stats_shows_the_settings_that_matter(loaded):
    stats = loaded("stats")
    assert cells(stats, "hash-max-listpack-value")[-1] == "65536"
    assert cells(stats, "hash-max-listpack-entries")[-1] == "256"
    assert cells(stats, "appendfsync")[-1] == "everysec"
    assert cells(stats, "maxmemory-policy")[-1] == "noeviction"


def test_show_lists_the_categories_of_a_user_largest_first(loaded):
    output = loaded("show", "ann")
    assert cells(output, "tea") == ["tea", "2", "2023-11-14 22:13", "2023-11-14 22:15"]
    assert cells(output, "milk") == ["milk", "1", "2023-11-14 22:14", "2023-11-14 22:14"]
    assert output.index("tea") < output.index("milk")


def test_show_lists_the_newest_behaviours_first(loaded):
    output = loaded("show", "ann")
    assert re.findall(r"\bi\d\b", output) == ["i4", "i3", "i2"]
    assert cells(output, "2023-11-14 22:14")[1:] == ["i3", "milk", "2"]


def test_show_lists_as_many_as_asked(loaded):
    output = loaded("show", "ann", "--newest", "1")
    assert re.findall(r"\bi\d\b", output) == ["i4"]
    assert "3 behaviours, 2 categories, 0 unreadable values" in output


def test_show_of_an_unknown_user_says_so(loaded):
    assert "nobody: no behaviours" in loaded("show", "nobody")


def test_delete_removes_a_user_once(loaded):
    assert "ann: removed" in loaded("delete", "ann")
    assert "ann: no behaviours" in loaded("show", "ann")
    assert "ann: had no tree" in loaded("delete", "ann")


def test_delete_leaves_the_other_users(loaded):
    loaded("delete", "ann")
    assert cells(loaded("stats"), "users")[-1] == "1"


def test_without_a_url_the_embedded_store_is_used(prepare, data_name, tmp_path, monkeypatch):
    monkeypatch.delenv("CTR_REDIS_URL", raising=False)
    prepared = prepare(EVENTS)
    runner, store = CliRunner(), ["--data", data_name, "--folder", str(tmp_path / "s")]
    assert runner.invoke(app, ["load", "--prepared", str(prepared.folder.parent), *store]).exit_code == 0
    shown = runner.invoke(app, ["show", "bob", *store])
    assert "bob: 1 behaviours" in shown.output


def test_the_url_may_come_from_the_environment(loaded, data_name, store_url):
    result = CliRunner().invoke(app, ["stats", "--data", data_name], env={"CTR_REDIS_URL": store_url})
    assert cells(result.output, "users")[-1] == "2"


MARKUP = "texts of the data are printed as the terminal library's markup"


@pytest.mark.parametrize("user", ["[bold]", "[/bold]", "a [b] c"])
def test_a_user_that_looks_like_markup_is_shown_as_it_is(loaded, user):
    assert f"user {user}: no behaviours" in loaded("show", user)


@pytest.mark.parametrize("item", [("[i2]", "tea"), ("i2", "[/tea]")])
def test_an_item_that_looks_like_markup_is_shown_as_it_is(prepare, command, item):
    prepared = prepare(EVENTS[:1], items=[item])
    command("load", "--prepared", str(prepared.folder.parent))
    assert cells(command("show", "ann"), "2023-11-14 22:13")[1:] == [*item, "1"]


def test_a_data_set_that_is_not_in_the_store_is_one_line(error_of, data_name):
    for command in (["stats"], ["show", "ann"]):
        output = error_of(*command)
        assert output.startswith("error")
        assert data_name in output
        assert output.count("\n") == 1


def test_a_folder_that_is_not_prepared_is_one_line(error_of, tmp_path):
    output = error_of("load", "--prepared", str(tmp_path))
    assert "not a prepared data set" in output
    assert output.count("\n") == 1


def test_a_wrong_value_is_one_line(prepare, error_of):
    prepared = prepare([*EVENTS, ("bob", 5, -1, 0)])
    output = error_of("load", "--prepared", str(prepared.folder.parent))
    assert "behaviours.parquet: column ts, row 4: -1" in output
    assert output.count("\n") == 1


def test_another_schema_is_one_line(prepare, error_of, loaded):
    folder = prepare(EVENTS, price_edges=(7.0,)).folder.parent
    output = error_of("load", "--prepared", str(folder))
    assert "the store holds schema" in output
    assert output.count("\n") == 1


def test_a_store_that_is_not_there_is_one_line(error_of):
    output = error_of("stats", url="redis://127.0.0.1:1")
    assert output.startswith("error")
    assert output.count("\n") == 1


def test_a_url_that_is_none_is_one_line(error_of):
    output = error_of("stats", url="localhost:6379")
    assert output.startswith("error")
    assert output.count("\n") == 1


def test_a_changed_schema_is_one_line(prepare, error_of):
    folder = prepare(EVENTS).folder
    content = json.loads((folder / SCHEMA_FILE).read_text())
    (folder / SCHEMA_FILE).write_text(json.dumps(content | {"version": "0123"}))
    output = error_of("load", "--prepared", str(folder.parent))
    assert "does not match its content" in output
    assert output.count("\n") == 1


def test_a_message_keeps_its_brackets(error_of, tmp_path):
    folder = tmp_path / "[sets]"
    assert "[sets]" in error_of("load", "--prepared", str(folder))


def test_publish_says_what_was_sent_and_what_was_there(store_url, tmp_path, data_name):
    folder = str(Tiny.at(tmp_path, data_name).add("eta"))
    first, again = (CliRunner().invoke(app, ["publish", folder, "--url", store_url]).output for _ in range(2))
    assert re.search(r"eta:\S+: tables [0-9a-f]{16}, 8 rows; 6 values \(0\.0 MiB\) sent, 0 were there", first)
    assert re.search(r"8 rows; 0 values \(0\.0 MiB\) sent, 6 were there", again)


def test_publish_of_a_folder_that_is_no_bundle_is_one_line(monkeypatch, capsys, store_url, tmp_path):
    monkeypatch.setattr(sys, "argv", ["store", "publish", str(tmp_path), "--url", store_url])
    with pytest.raises(SystemExit):
        main()
    assert "missing, so the bundle was never finished" in capsys.readouterr().out
