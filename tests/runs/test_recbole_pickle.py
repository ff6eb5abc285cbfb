"""RecBole's pickled checkpoints: read exactly, and anything but data refused."""

import collections
import logging
import pickle
from pathlib import Path

import pytest
import recbole.quick_start
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.quick_start import load_data_and_model, run_recbole
from recbole.quick_start import quick_start as quick_start_module
from recbole.trainer import Trainer
from recbole.utils import ModelType, get_model, init_seed

from recbole_lightgnn.errors import InputError
from recbole_lightgnn.runs.recbole_pickle import load_recbole_checkpoint

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def trained(settings):
    """Return a trainer after two epochs, its test loader, and the checkpoint that RecBole wrote."""
    config = Config(model="BPR", dataset="small", config_dict=settings)
    init_seed(1, True)
    train, valid, test = data_preparation(config, create_dataset(config))
    trainer = Trainer(config, get_model("BPR")(config, train.dataset))
    trainer.fit(train, valid, verbose=False)
    return trainer, test, trainer.saved_model_file


def test_torch_itself_refuses_recboles_checkpoint(trained):
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        torch.load(trained[2])
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        Trainer.evaluate.__wrapped__(trained[0], trained[1])


def test_a_checkpoint_is_read_as_by_plain_unpickling(trained):
    read = load_recbole_checkpoint(trained[2])
    free = torch.load(trained[2], weights_only=False)  # this test wrote the file
    assert list(read) == list(free)
    assert vars(read["config"]).keys() == vars(free["config"]).keys()
    for key, value in vars(free["config"]).items():
        assert getattr(read["config"], key) == value, key
    for key in ("epoch", "cur_step", "best_valid_score", "other_parameter"):
        assert read[key] == free[key]
    assert type(read["best_valid_score"]) is type(free["best_valid_score"])
    for name, tensor in free["state_dict"].items():
        assert torch.equal(read["state_dict"][name], tensor)
    assert read["optimizer"]["param_groups"] == free["optimizer"]["param_groups"]


def test_evaluate_and_resume_load_what_was_saved(trained):
    trainer, test, file = trained
    best = load_recbole_checkpoint(file)["state_dict"]["user_embedding.weight"]
    before = trainer.evaluate(test)
    torch.nn.init.zeros_(trainer.model.user_embedding.weight)
    assert trainer.evaluate(test) == before
    assert torch.equal(trainer.model.user_embedding.weight, best)
    torch.nn.init.zeros_(trainer.model.user_embedding.weight)
    trainer.resume_checkpoint(file)
    assert torch.equal(trainer.model.user_embedding.weight, best)
    assert trainer.start_epoch == load_recbole_checkpoint(file)["epoch"] + 1
    assert trainer.saved_model_file == file


@pytest.mark.parametrize("model", ["LightGCN", "EASE", "ItemKNN", "Pop"])
def test_load_data_and_model_gives_the_same_scores(settings, model):
    result = run_recbole(model=model, dataset="small", config_dict=settings)
    (file,) = Path(settings["checkpoint_dir"]).iterdir()
    config, loaded, *_, test = load_data_and_model(str(file))
    assert (config["model"], config["epochs"]) == (model, settings["epochs"])
    again = Trainer(config, loaded).evaluate(test, load_best_model=False)
    assert again == result["test_result"]
    assert recbole.quick_start.load_data_and_model is quick_start_module.load_data_and_model


class Evil:
    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize(
    ("payload", "named"),
    [
        (lambda: Evil(exec, ("open('ran', 'w')",)), "builtins.exec"),
        (lambda: Evil(__import__("os").system, ("touch ran",)), "system"),
        (lambda: collections.UserDict(), "collections.UserDict"),
        (lambda: InputError("x"), "recbole_lightgnn.errors.InputError"),
        (lambda: Evil(get_model, ("BPR",)), "recbole.utils.utils.get_model"),
    ],
)
def test_a_checkpoint_that_names_anything_else_is_refused(
    trained, tmp_path, payload, named, protocol
):
    free = torch.load(trained[2], weights_only=False)
    torch.save({**free, "epoch": payload()}, "evil.pth", pickle_protocol=protocol)
    with pytest.raises(InputError, match=named) as refusal:
        load_recbole_checkpoint("evil.pth")
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_checkpoint_cannot_call_what_it_may_name(trained, tmp_path, protocol):
    """``Config(config_dict=...)`` evaluates strings, so the file must not call it."""
    free = torch.load(trained[2], weights_only=False)
    call = ("BPR", "small", None, {"x": "open('ran', 'w')"})
    for function in (Config, get_model("BPR")):
        torch.save({**free, "epoch": Evil(function, call)}, "evil.pth", pickle_protocol=protocol)
        with pytest.raises(InputError, match="not a checkpoint as RecBole writes it"):
            load_recbole_checkpoint("evil.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("protocol", [2, 4])
def test_members_of_enums_are_read_as_python_3_11_0_to_3_pickles_them(trained, protocol):
    free = torch.load(trained[2], weights_only=False)
    named = Evil(getattr, (ModelType, "GENERAL"))
    torch.save({**free, "epoch": named}, "old.pth", pickle_protocol=protocol)
    assert load_recbole_checkpoint("old.pth")["epoch"] is ModelType.GENERAL
    for owner, name in ((ModelType, "__init__"), (ModelType, "mro"), (get_model("BPR"), "__init__"),
                        (Config, "_load_config_files")):  # fmt: skip
        payload = {**free, "epoch": Evil(getattr, (owner, name))}
        torch.save(payload, "evil.pth", pickle_protocol=protocol)
        with pytest.raises(InputError, match="not a checkpoint as RecBole writes it"):
            load_recbole_checkpoint("evil.pth")


def test_files_that_are_no_checkpoints_of_recbole(trained, tmp_path):
    with pytest.raises(InputError, match=r"none.pth does not exist"):
        load_recbole_checkpoint("none.pth")
    (tmp_path / "text.pth").write_text("no zip", encoding="utf-8")
    with pytest.raises(InputError, match=r"text.pth is not a checkpoint as RecBole writes it"):
        load_recbole_checkpoint("text.pth")
    torch.save({"w": torch.ones(1)}, "weights.pth")
    with pytest.raises(InputError, match="it holds no settings"):
        load_recbole_checkpoint("weights.pth")
    whole = (tmp_path / trained[2]).read_bytes()
    (tmp_path / "half.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="or is damaged"):
        load_recbole_checkpoint("half.pth")


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_defaultdict_of_lists_is_read_as_a_dictionary_and_any_other_is_refused(trained, protocol):
    free = torch.load(trained[2], weights_only=False)
    sets = collections.defaultdict(list, {3: [(torch.tensor([1, 2]), torch.tensor([0]))]})
    torch.save({**free, "epoch": sets}, "ripple.pth", pickle_protocol=protocol)
    read = load_recbole_checkpoint("ripple.pth")["epoch"]
    assert type(read) is dict
    assert read.keys() == {3}
    assert read[3][0][0].tolist() == [1, 2]
    for factory in (dict, Config, get_model("BPR"), torch.nn.Linear):
        payload = {**free, "epoch": Evil(collections.defaultdict, (factory,))}
        torch.save(payload, "evil.pth", pickle_protocol=protocol)
        with pytest.raises(InputError):
            load_recbole_checkpoint("evil.pth")
    torch.save({**free, "epoch": Evil(list, ("abc",))}, "evil.pth", pickle_protocol=protocol)
    with pytest.raises(InputError, match="not a checkpoint as RecBole writes it"):
        load_recbole_checkpoint("evil.pth")


@pytest.mark.parametrize("protocol", [2, 4])
def test_layers_are_not_read_and_nothing_that_builds_them_runs(trained, protocol):
    free = torch.load(trained[2], weights_only=False)
    layer = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Dropout())
    logger = Evil(logging.getLogger, ("made by a checkpoint",))
    parts = {"layer": layer, "logger": logger, "weights": torch.ones(2), "number": 3}
    torch.save({**free, "other_parameter": parts}, "layers.pth", pickle_protocol=protocol)
    read = load_recbole_checkpoint("layers.pth")
    assert list(read["other_parameter"]) == ["weights", "number"]
    assert "made by a checkpoint" not in logging.root.manager.loggerDict
    layer.evil = Evil(exec, ("open('ran', 'w')",))
    torch.save({**free, "other_parameter": parts}, "evil.pth", pickle_protocol=protocol)
    with pytest.raises(InputError, match=r"builtins.exec"):
        load_recbole_checkpoint("evil.pth")
    assert not Path("ran").exists()
