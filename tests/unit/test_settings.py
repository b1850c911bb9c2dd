"""`TIGERFLOW_*` variables, in the environment and in a file."""

import os

import pytest

from tigerflow.settings import (
    EnvFileError,
    SettingError,
    Settings,
    show_settings,
    stray_variables,
)


@pytest.fixture(autouse=True)
def directory(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("TIGERFLOW_")]:
        monkeypatch.delenv(name)
    # What a test puts there goes with it.
    monkeypatch.setattr(os, "environ", os.environ.copy())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_without_variables_all_is_as_it_is():
    assert Settings.load() == Settings()


def test_file_in_the_current_directory_is_taken(directory):
    (directory / ".env").write_text(
        "# mine\nTIGERFLOW_TASK_POLL_INTERVAL=7\nexport TIGERFLOW_WORKER_GRACE='5'\n"
        "TIGERFLOW_UNKNOWN=x\nAPI_KEY=secret\n"
    )
    settings = Settings.load()
    assert (settings.task_poll_interval, settings.worker_grace) == (7, 5)
    # For the processes that this one starts; what is none of ours is left alone.
    assert os.environ["TIGERFLOW_WORKER_GRACE"] == "5"
    assert "API_KEY" not in os.environ


def test_environment_wins(directory):
    (directory / ".env").write_text("TIGERFLOW_WORKER_GRACE=5\n")
    os.environ["TIGERFLOW_WORKER_GRACE"] = "6"
    assert Settings.load().worker_grace == 6


def test_named_file_takes_the_place_of_the_other(directory):
    (directory / ".env").write_text("TIGERFLOW_WORKER_GRACE=5\n")
    (directory / "my.env").write_text("TIGERFLOW_TASK_POLL_INTERVAL=9\n")
    os.environ["TIGERFLOW_ENV_FILE"] = "my.env"
    settings = Settings.load()
    assert (settings.task_poll_interval, settings.worker_grace) == (9, 30)


def test_named_file_that_is_not_there_is_an_error():
    os.environ["TIGERFLOW_ENV_FILE"] = "nowhere.env"
    with pytest.raises(EnvFileError) as caught:
        Settings.load()
    assert str(caught.value) == (
        "TIGERFLOW_ENV_FILE='nowhere.env' cannot be read: No such file or directory"
    )


def test_binary_env_file_is_ignored(directory):
    (directory / ".env").write_bytes(b"\xff\xfe")
    assert Settings.load() == Settings()
    (directory / ".env").unlink()
    (directory / ".env").mkdir()
    assert Settings.load() == Settings()


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "soon", "", "\uff11"])
def test_value_that_is_not_a_whole_number_is_named(directory, text):
    (directory / ".env").write_text(f"TIGERFLOW_WORKER_GRACE={text}\n")
    with pytest.raises(SettingError) as caught:
        Settings.load()
    assert str(caught.value) == (
        f".env: TIGERFLOW_WORKER_GRACE={text!r} is not a whole number greater than 0"
    )


def test_wrong_environment_value_is_not_blamed_on_the_env_file(directory):
    (directory / ".env").write_text("TIGERFLOW_WORKER_GRACE=5\n")
    os.environ["TIGERFLOW_WORKER_GRACE"] = "soon"
    with pytest.raises(SettingError) as caught:
        Settings.load()
    assert str(caught.value) == (
        "TIGERFLOW_WORKER_GRACE='soon' is not a whole number greater than 0"
    )


def test_all_settings_are_shown_with_where_their_values_come_from(directory):
    (directory / "my.env").write_text(
        "TIGERFLOW_WORKER_GRACE=5\nTIGERFLOW_MAILBOX_POLL_MS=7\n"
    )
    os.environ["TIGERFLOW_ENV_FILE"] = "my.env"
    os.environ["TIGERFLOW_WORKER_GRACE"] = "6"
    shown = {each.variable: each for each in show_settings()}
    assert len(shown) == len(vars(Settings()))
    origins = {name: (each.value, each.origin) for name, each in shown.items()}
    assert origins["TIGERFLOW_WORKER_GRACE"] == ("6", "environment")
    assert origins["TIGERFLOW_MAILBOX_POLL_MS"] == ("7", "my.env")
    assert origins["TIGERFLOW_TASK_POLL_INTERVAL"] == ("3", "default")
    assert shown["TIGERFLOW_MAILBOX_POLL_MS"].unit == "ms"
    assert shown["TIGERFLOW_WORKER_ATTEMPTS"].unit == "attempts"
    assert shown["TIGERFLOW_WORKER_GRACE"].unit == "s"
    assert {each.mistake for each in shown.values()} == {None}


def test_wrong_value_is_shown_with_its_mistake():
    os.environ["TIGERFLOW_WORKER_GRACE"] = "soon"
    mistakes = {each.variable: each.mistake for each in show_settings()}
    assert mistakes.pop("TIGERFLOW_WORKER_GRACE") == (
        "TIGERFLOW_WORKER_GRACE='soon' is not a whole number greater than 0"
    )
    assert set(mistakes.values()) == {None}


@pytest.mark.parametrize(("text", "value"), [("0", False), ("1", True)])
def test_a_setting_that_is_on_or_off_is_a_digit(text, value):
    os.environ["TIGERFLOW_FSYNC"] = text

    assert Settings.load().fsync is value
    shown = next(each for each in show_settings() if each.variable == "TIGERFLOW_FSYNC")
    assert (shown.value, shown.unit, shown.mistake) == (text, "", None)


@pytest.mark.parametrize("text", ["", "2", "yes", "01"])
def test_a_setting_that_is_on_or_off_is_nothing_else(text):
    os.environ["TIGERFLOW_FSYNC"] = text

    with pytest.raises(SettingError) as caught:
        Settings.load()
    assert str(caught.value) == f"TIGERFLOW_FSYNC={text!r} is not 0 or 1"


def test_unknown_variables_are_named_with_a_suggestion(directory):
    (directory / ".env").write_text("TIGERFLOW_WORKER_GRASE=5\nWORKER_GRACE=1\n")
    os.environ["TIGERFLOW_QQ"] = "1"
    os.environ["tigerflow_task_poll_interval"] = "1"  # noqa: SIM112 -- what is tried here
    os.environ["TIGERFLOW_SLURM_TASK_CLIENT_HOURS"] = "24"
    os.environ["TIGERFLOW_TASK_POLL_INTERVAL"] = "1"
    Settings.load()
    unknown = "is not a setting of TigerFlow;"
    assert "\n".join(stray_variables()) == (
        f"TIGERFLOW_QQ {unknown} 'tigerflow settings' shows them all\n"
        "TIGERFLOW_SLURM_TASK_CLIENT_HOURS has no effect: "
        "a Slurm task has no client job\n"
        f"TIGERFLOW_WORKER_GRASE {unknown} did you mean TIGERFLOW_WORKER_GRACE?\n"
        f"tigerflow_task_poll_interval {unknown} "
        "did you mean TIGERFLOW_TASK_POLL_INTERVAL?"
    )
