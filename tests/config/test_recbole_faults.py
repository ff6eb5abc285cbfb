"""Errors of RecBole's code are the user's, with the setting named; ours stay ours."""

import pytest
from recbole.data.interaction import Interaction
from recbole.utils import argument_list

from recbole_lightgnn.cli.main import main
from recbole_lightgnn.config.files import recbole_yaml
from recbole_lightgnn.config.recbole_faults import explained
from recbole_lightgnn.config.schema import describe, unlisted
from recbole_lightgnn.errors import InputError


@pytest.fixture
def command(settings, capsys):
    """Function that runs a model and returns exit status and lines on standard error."""

    def command(*flags):
        given = {key: settings[key] for key in ("data_path", "epochs", "show_progress", "state")}
        own = {flag.partition("=")[0] for flag in flags}
        shared = [f"--{key}={value}" for key, value in given.items() if f"--{key}" not in own]
        status = main(["run", "--dataset=small", "--topk=[5]", "--valid_metric=NDCG@5", *shared,
                       *flags])  # fmt: skip
        return status, capsys.readouterr().err.splitlines()

    return command


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--model=AsymKNN", "--q=0"], "topk=[5], q=0"),
    ],
)
def test_a_setting_that_stops_recbole_is_named_in_one_line(command, flags, named):
    status, (*_, line) = command(*flags)
    assert (status, line[:7]) == (2, "error: ")
    assert f"change the settings that you gave: {named}" in line
    assert line.endswith("(--debug shows where in RecBole)")


def test_debug_shows_recboles_traceback(command):
    status, lines = command("--model=AsymKNN", "--q=0", "--debug")
    assert status == 2
    assert any("recbole/model/general_recommender/asymknn.py" in line for line in lines)


def test_an_error_of_ours_stays_an_internal_error(command, monkeypatch):
    def fail(*_):
        raise KeyError("ours")

    monkeypatch.setattr("recbole_lightgnn.trainer.adapters.build_trainer", fail)
    status, (*_, line) = command("--model=BPR", "--embedding_size=8")
    assert status == 1
    assert line.startswith("internal error: KeyError: 'ours'")


def test_the_innermost_function_of_recbole_tells_which_setting_is_named():
    with pytest.raises(InputError) as error, explained("it stopped", {"epochs": 3, "value": 4}):
        Interaction(3)
    assert str(error.value).startswith("it stopped: ")
    assert "epochs" not in str(error.value)


def test_input_errors_and_missing_packages_pass_unchanged():
    for kind in (InputError, ModuleNotFoundError):
        with pytest.raises(kind, match=r"^as it is$"), explained("it stopped", {}):
            raise kind("as it is")


def test_errors_named_as_the_users_are_translated_wherever_they_come_from():
    with (
        pytest.raises(InputError, match="it stopped: OSError: full"),
        explained("it stopped", {}, OSError),
    ):
        raise OSError("full")


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--LIST_SUFFIX=", "LIST_SUFFIX must be a text, got an empty one"),
        ("--NEG_PREFIX=", "NEG_PREFIX must be a text, got an empty one"),
        ("--ITEM_LIST_LENGTH_FIELD=[1]", "ITEM_LIST_LENGTH_FIELD must be a name, got [1]"),
        ("--ENTITY_ID_FIELD={}", "ENTITY_ID_FIELD must be a name, got {}"),
        ("--embedding_size=-3", "embedding_size must be an integer >= 1, got -3"),
        ("--embedding_size=wide", "embedding_size must be an integer >= 1, got 'wide'"),
        ("--embedding_size=False", "embedding_size must be a number, as 64, got False"),
        ("--numerical_features=1", "numerical_features must be a list of columns, got 1"),
        ("--log_wandb=maybe", "log_wandb must be True or False, got 'maybe'"),
        ("--wandb_project=3", "wandb_project must be a name, got 3"),
        ("--valid_metric_bigger=1", "valid_metric_bigger must be True or False, got 1"),
        ("--tail_ratio=0", "tail_ratio must be a number > 0, or empty, got 0"),
        ("--token_num_threshold=x", "token_num_threshold must be an integer >= 1, got 'x'"),
        (
            "--gpu_id=[0, 1]",
            "gpu_id must be the number of a GPU, or several with commas, got [0, 1]: write "
            "--gpu_id=0,1",
        ),
        ("--additional_feat_suffix=3", "additional_feat_suffix must be a name, got 3"),
    ],
)
def test_settings_of_a_wrong_type_are_refused(command, flag, message):
    status, (*_, line) = command("--model=BPR", flag)
    assert (status, line) == (2, f"error: {message}")


def test_every_general_setting_of_recbole_has_a_type():
    general = {*recbole_yaml("overall"), *recbole_yaml("dataset/sample")}
    for group in ("general", "training", "evaluation", "dataset"):
        general |= set(getattr(argument_list, f"{group}_arguments"))
    described = {*describe("BPR"), *unlisted()}
    assert general - described == {"config_file"}, "RecBole lists it and reads it nowhere"
