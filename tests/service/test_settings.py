import signal
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from service.__main__ import main
from service.settings import LOOPBACK, Settings, read_settings
from tests.service.readme import table

# names that other programs rely on, with their defaults
FIXED = {
    "CTR_HOST": "127.0.0.1", "CTR_PORT": 8000, "CTR_REDIS_URL": "", "CTR_BUNDLES": Path("bundles"), "CTR_DATA": "",
    "CTR_MODEL": "", "CTR_PROVIDERS": "auto", "CTR_API_KEY": SecretStr(""), "CTR_ADMIN_API_KEY": SecretStr(""),
    "CTR_MAX_EVENTS": 1000,
    "CTR_TREE_CAP_PER_CATEGORY": 0, "CTR_TREE_CAP_PER_USER": 131_072, "CTR_AUTH": "on", "CTR_TIMEOUT_MS": 250,
    "CTR_STORE_TIMEOUT_MS": 8, "CTR_MAX_CANDIDATES": 1000, "CTR_WORKERS": 1, "CTR_DRAIN_MS": 2000,
}  # fmt: skip


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """No setting but the test's own: environment(CTR_PORT="1")."""
    for name in [*Settings.model_fields]:
        monkeypatch.delenv(f"CTR_{name.upper()}", raising=False)

    def put(**values):
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return put


def test_the_defaults_serve_this_machine_only():
    assert read_settings().host == "127.0.0.1"


@pytest.mark.parametrize("name", FIXED)
def test_a_fixed_name_has_its_default(name):
    assert getattr(read_settings(), name.removeprefix("CTR_").lower()) == FIXED[name]


def test_a_variable_sets_its_field(environment):
    environment(CTR_PORT="9000", CTR_STORE_TIMEOUT_MS="2.5", CTR_BUNDLES="/models")
    settings = read_settings()
    assert (settings.port, settings.store_timeout_ms, settings.bundles) == (9000, 2.5, Path("/models"))


def test_settings_are_read_from_the_environment_that_is_given():
    assert read_settings({"CTR_PORT": "9000"}).port == 9000


def test_an_unknown_variable_is_refused_with_the_known_ones(environment):
    environment(CTR_PROT="9000")
    with pytest.raises(ValueError, match=r"CTR_PROT; known are .*CTR_HOST.*CTR_PORT"):
        read_settings()


def test_variables_of_others_are_not_looked_at(environment):
    environment(CTRL_PORT="1", XCTR_PORT="1", PORT="1")
    assert read_settings().port == 8000


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CTR_PORT", "65536"), ("CTR_PORT", "-1"), ("CTR_PORT", "http"), ("CTR_PROVIDERS", "gpu"), ("CTR_AUTH", "no"),
        ("CTR_REQUEST_THREADS", "0"), ("CTR_MAX_IN_FLIGHT", "0"), ("CTR_MAX_CANDIDATES", "0"), ("CTR_MAX_BODY_BYTES", "0"),
        ("CTR_TIMEOUT_MS", "0"), ("CTR_STORE_TIMEOUT_MS", "-8"), ("CTR_INTRA_OP_THREADS", "0"),
    ],
)  # fmt: skip
def test_a_value_out_of_range_is_refused_and_named(environment, name, value):
    environment(**{name: value})
    with pytest.raises(ValidationError) as caught:
        read_settings()
    assert [f"CTR_{'_'.join(map(str, error['loc'])).upper()}" for error in caught.value.errors()] == [name]


# who may call


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "scorer.example"])
def test_an_open_host_without_a_key_is_refused(environment, host):
    environment(CTR_HOST=host)
    with pytest.raises(ValueError, match=r"CTR_API_KEY.*CTR_AUTH=off"):
        read_settings()


@pytest.mark.parametrize("host", LOOPBACK)
def test_a_loopback_host_needs_no_key(environment, host):
    environment(CTR_HOST=host)
    assert read_settings().host == host


def test_an_open_host_with_a_key_is_accepted(environment):
    environment(CTR_HOST="0.0.0.0", CTR_API_KEY="secret")
    assert read_settings().host == "0.0.0.0"


def test_an_open_host_can_be_left_open_on_purpose(environment):
    environment(CTR_HOST="0.0.0.0", CTR_AUTH="off")
    assert read_settings().host == "0.0.0.0"


def test_the_scoring_key_is_not_the_admin_key_too(environment):
    environment(CTR_API_KEY="secret", CTR_ADMIN_API_KEY="secret")
    with pytest.raises(ValueError, match=r"CTR_ADMIN_API_KEY is CTR_API_KEY") as caught:
        read_settings()
    assert "'secret'" not in str(caught.value.errors()[0]["msg"])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CTR_API_KEY", "do-not-print-me"), ("CTR_ADMIN_API_KEY", "do-not-print-me"),
        ("CTR_REDIS_URL", "redis://:do-not-print-me@host:1"), ("CTR_REDIS_READ_URL", "redis://:do-not-print-me@host:1"),
        ("CTR_EVENTS_URL", "redis://:do-not-print-me@host:1"),
    ],
)  # fmt: skip
def test_a_secret_is_not_printed(environment, name, value):
    environment(**{name: value})
    settings = read_settings()
    assert "do-not-print-me" not in f"{settings!r} {settings}"


def test_settings_do_not_change_once_read():
    with pytest.raises(ValidationError, match="frozen"):
        read_settings().port = 1


# python -m service


@pytest.fixture
def started(monkeypatch):
    """What `python -m service` says when it ends at once."""
    monkeypatch.setattr(sys, "argv", ["service"])
    terminate = signal.getsignal(signal.SIGTERM)

    def start():
        with pytest.raises(SystemExit) as caught:
            main()
        return str(caught.value.code)

    yield start
    signal.signal(signal.SIGTERM, terminate)


def test_the_scorer_does_not_start_with_an_unknown_variable(environment, started):
    environment(CTR_PROT="9000")
    text = started()
    assert text.startswith("error: unknown settings CTR_PROT")
    assert "CTR_PORT" in text


def test_the_scorer_does_not_start_with_a_value_out_of_range(environment, started):
    environment(CTR_PORT="70000")
    assert started().startswith("error: CTR_PORT: ")


def test_the_scorer_does_not_start_open_without_a_key(environment, started):
    environment(CTR_HOST="0.0.0.0")
    assert "set CTR_API_KEY" in started()


def test_the_refusal_of_an_open_host_names_no_setting_that_does_not_exist(environment, started):
    environment(CTR_HOST="0.0.0.0")
    assert "CTR_:" not in started()


def test_the_settings_command_lists_every_setting(started, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["service", "settings"])
    assert started() == "0"
    printed = capsys.readouterr().out
    for name in Settings.model_fields:
        assert f"CTR_{name.upper()}" in printed


# documentation


def test_every_setting_has_a_description():
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_the_readme_lists_every_setting_with_its_default_in_order():
    listed = [(name, default) for name, default, _ in table("variable", "default", "what")]
    assert listed == [(f"CTR_{name.upper()}", _text(field.get_default())) for name, field in Settings.model_fields.items()]


def test_the_readme_says_what_every_setting_is():
    assert all(what for *_, what in table("variable", "default", "what"))


def _text(default):
    return default.get_secret_value() if isinstance(default, SecretStr) else str(default)
