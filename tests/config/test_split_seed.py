"""One split for several seeds: `split_seed`, and that nothing changes without it."""

import json
from pathlib import Path

import pytest
import torch
from recbole.data import create_dataset, data_preparation
from recbole.quick_start import load_data_and_model
from recbole.utils import init_seed

from recbole_lightgnn.config.recbole_config import build_config
from recbole_lightgnn.data.loaders import fingerprint, load_data
from recbole_lightgnn.quick_start import configure, fingerprint_of, run
from recbole_lightgnn.runs.finished_run import TrainedRun


def split(settings, **changes):
    return fingerprint_of(configure("BPR", "small", settings=settings | changes))


def test_all_seeds_have_the_split_of_a_split_seed(settings):
    first = split(settings, seed=1, split_seed=7)
    assert split(settings, seed=2, split_seed=7) == first
    assert split(settings, seed=1, split_seed=8) != first
    assert split(settings, seed=7) == first, "as RecBole cuts with that seed"
    assert split(settings, seed=1) != split(settings, seed=2)


def test_without_it_a_run_is_as_it_was(settings):
    config = build_config("BPR", "small", (), settings | {"seed": 3})
    init_seed(3, True)
    recbole = fingerprint(*data_preparation(config, create_dataset(config)))
    drawn = torch.rand(1)
    init_seed(3, True)
    assert fingerprint(*load_data(config)) == recbole
    assert torch.rand(1) == drawn


def test_after_the_cut_the_runs_own_seed_counts(settings):
    init_seed(3, True)
    drawn = torch.rand(1)
    load_data(build_config("BPR", "small", (), settings | {"seed": 3, "split_seed": 7}))
    assert torch.rand(1) == drawn


@pytest.mark.slow
def test_what_is_loaded_again_has_its_split(settings):
    record = run("LightGNNTeacher", "small", settings=settings | {"seed": 1, "split_seed": 7})
    pairs = {k: v for k, v in record["dataset_fingerprint"].items() if k != "card_sha256"}
    folder = Path(record["result_file"]).parent
    assert fingerprint(*TrainedRun(folder).loaders) == pairs
    loaders = load_data_and_model(str(folder / "teacher.safetensors"))[3:]
    assert fingerprint(*loaders) == pairs


def test_a_teacher_of_recboles_serves_other_seeds_of_its_split(settings):
    teacher = {"teacher": "BPR", "teacher_settings": {"epochs": 1, "embedding_size": 64}}
    teacher |= {"use_intermediate": False, "n_pruning_runs": 0, "epochs": 1, "split_seed": 7}
    record = run("LightGNN", "small", settings=settings | teacher | {"seed": 1})
    file = str(Path(record["result_file"]).with_name("teacher.pth"))
    del teacher["teacher_settings"]
    given = settings | teacher | {"seed": 2, "teacher_checkpoint": file}
    again = run("LightGNN", "small", settings=given)
    assert again["rows"][0]["test"] == record["rows"][0]["test"]
    with pytest.raises(ValueError, match=r"made with other settings \(split_seed\)"):
        run("LightGNN", "small", settings=given | {"split_seed": 8})


def test_a_run_of_a_version_without_it_goes_on(settings):
    settings = settings | {"seed": 1}
    record = run("LightGNNTeacher", "small", settings=settings)
    file = Path(record["result_file"]).with_name("run.json")
    content = json.loads(file.read_text())
    assert content["settings"].pop("split_seed", 0) is None
    file.write_text(json.dumps(content))
    assert run("LightGNNTeacher", "small", settings=settings, resume=True)["resumed"]
