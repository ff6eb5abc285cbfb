"""The stages end to end on the planted world: counts, reuse, ablations, refusals."""

import json
from pathlib import Path

import pytest
import torch
from helpers.planted import N_ITEMS, N_USERS, QUICK, quick_settings, seal_test_split, write_planted
from recbole.utils import get_model, get_trainer

from recbole_lightgnn.config.ablations import ablations
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.models.frozen_teacher import FrozenTeacher
from recbole_lightgnn.quick_start import run
from recbole_lightgnn.runs import checkpoint

ENTRIES = (N_USERS + N_ITEMS) * 16


@pytest.fixture(autouse=True)
def world(tmp_path, monkeypatch):
    """Write the planted dataset into an empty folder; return its pairs."""
    monkeypatch.chdir(tmp_path)
    return write_planted(tmp_path / "dataset")


def quick(model="LightGNN", dataset="planted", resume=None, **changes):
    return run(model, dataset, settings=quick_settings(**changes), resume=resume)


def run_dir(record) -> Path:
    return Path(record["result_file"]).parent


def stages(record):
    return [row["key"] for row in record["rows"]]


@pytest.fixture
def full(world):
    return quick()


@pytest.mark.parametrize("batch_by", ["interaction", "user"])
def test_everything_is_chosen_before_the_test_split_is_opened(monkeypatch, batch_by):
    seal_test_split(monkeypatch)
    own = {"batch_by": batch_by}
    stages = {key: {**QUICK[key], **own} for key in ("teacher_settings", "intermediate_settings")}
    with pytest.raises(AssertionError, match="the test split was opened"):
        quick(**own, **stages)
    (run_file,) = Path("saved").glob("*/run.json")
    rows = json.loads(run_file.read_text())["rows"]
    assert [row["key"] for row in rows][-1] == "student-02"
    assert len(rows) == 5


def test_all_stages_run_and_what_is_pruned_is_gone(full, world):
    assert stages(full) == ["teacher", "intermediate", "student-00", "student-01", "student-02"]
    students = full["rows"][2:]
    n_edges = len(world["train"])
    assert [row["entries"] for row in students] == [
        ENTRIES,
        round(0.8 * ENTRIES),
        round(0.8 * round(0.8 * ENTRIES)),
    ]
    assert [row["interactions"] for row in students] == [
        n_edges,
        round(0.9 * n_edges),
        round(0.9 * round(0.9 * n_edges)),
    ]
    for row in students:
        tensors, meta = checkpoint.load(run_dir(full) / f"{row['key']}.safetensors")
        stored = sum(tensors[f"{side}_embedding.values"].numel() for side in ("user", "item"))
        padding = 2 * 16 if row["run"] == 0 else 0
        assert stored == row["entries"] + padding
        assert tensors["edge_weight"].numel() == row["interactions"]
        assert row["parameters"] == row["entries"] + row["interactions"]
        assert row["bytes"] == sum(tensor.nbytes for tensor in tensors.values())
        assert meta["valid"] == row["valid"]
    assert students[0]["bytes"] > students[1]["bytes"] > students[2]["bytes"]


def test_the_world_is_learned(full):
    # A user has 8 of the 19 or 20 items of a community; a random ranking rarely finds 3 more.
    assert full["rows"][0]["test"]["recall@20"] > 0.9
    assert full["test"]["recall@20"] > 0.9


def test_what_is_pruned_first_is_noise(world):
    record = quick(n_pruning_runs=3, edge_ratio=0.9, epochs=4)
    model, data = rebuilt(record)
    users, items = data.field2id_token["user_id"], data.field2id_token["item_id"]
    pattern = model.observed.interactions.pattern
    dropped = (~model.edge_mask).nonzero().squeeze(1)
    pairs = {
        (int(users[u]), int(items[i]))
        for u, i in zip(pattern.row[dropped].tolist(), pattern.col[dropped].tolist(), strict=True)
    }
    share = len(pairs & world["noise"]) / len(pairs)
    # 1 in 9 interactions is noise, so random pruning would reach 0.11.
    assert share > 0.35


def rebuilt(record):
    from recbole.quick_start import load_data_and_model

    path = run_dir(record) / f"{record['rows'][-1]['key']}.safetensors"
    _, model, dataset, *_ = load_data_and_model(str(path))
    return model, dataset


def test_same_seed_same_result_and_another_seed_another(full):
    again = quick()
    assert again["rows"][-1]["valid"] == full["rows"][-1]["valid"]
    assert again["test"] == full["test"]
    other = quick(seed=7)
    assert other["rows"][0]["valid"] != full["rows"][0]["valid"] or other["test"] != full["test"]


def test_stages_taken_from_checkpoints_give_the_same_student(full):
    folder = run_dir(full)
    from_teacher = quick(teacher_checkpoint=str(folder / "teacher.safetensors"))
    from_intermediate = quick(intermediate_checkpoint=str(folder / "intermediate.safetensors"))
    assert stages(from_intermediate)[0] == "intermediate"
    for record in (from_teacher, from_intermediate):
        assert record["test"] == full["test"]
        assert record["best_valid"] == full["best_valid"]


def test_each_stage_runs_alone(full):
    alone = {key: QUICK[key] for key in ("show_progress", "topk", "valid_metric")}
    alone |= {"train_batch_size": 2048}
    teacher = run("LightGNNTeacher", "planted", settings=alone | QUICK["teacher_settings"])
    assert stages(teacher) == ["teacher"]
    path = str(run_dir(full) / "teacher.safetensors")
    settings = alone | QUICK["intermediate_settings"] | {"teacher_checkpoint": path}
    intermediate = run("LightGNNIntermediate", "planted", settings=settings)
    assert stages(intermediate) == ["teacher", "intermediate"]
    assert intermediate["test"] == full["rows"][1]["test"]


@pytest.mark.slow
@pytest.mark.parametrize("teacher", ["SGL", "BPR", "EASE", "NeuMF", "MultiVAE"])
def test_any_general_recommender_can_teach(teacher):
    settings = {} if teacher == "EASE" else {"epochs": 2}
    record = quick(teacher=teacher, teacher_settings=settings, n_pruning_runs=1)
    assert stages(record) == ["teacher", "intermediate", "student-00", "student-01"]
    assert record["rows"][-1]["entries_kept"] == round(0.8 * ENTRIES) / ENTRIES


@pytest.mark.parametrize(("own", "used"), [({}, True), ({"accelerate": False}, False)])
def test_a_recbole_teacher_is_accelerated_if_the_run_is(own, used, monkeypatch):
    taught = []
    init = FrozenTeacher.__init__

    def recorded(self, model, **options):
        taught.append(model)
        init(self, model, **options)

    monkeypatch.setattr(FrozenTeacher, "__init__", recorded)
    own = own | {"epochs": 1}
    short = {"use_intermediate": False, "n_pruning_runs": 0, "epochs": 1}
    record = quick(teacher="LightGCN", teacher_settings=own, accelerate=True, **short)
    assert record["rows"][0]["settings"]["accelerate"] is used
    assert ("forward" in vars(taught[0])) is used  # replaced on the model itself


@pytest.mark.slow
@pytest.mark.parametrize("teacher", ["LightGCN", "EASE"])
def test_a_checkpoint_of_recbole_teaches(teacher, tmp_path):
    """A checkpoint teaches as the model does; EASE's has its matrix besides the parameters."""
    settings = {"epochs": 2, "embedding_size": 16} if teacher == "LightGCN" else {}
    changes = {"n_pruning_runs": 1, "epochs": 1, "teacher": teacher, "teacher_settings": settings}
    trained = quick(**changes)
    path = str(run_dir(trained) / "teacher.pth")
    again = quick(**changes, teacher_checkpoint=path)
    assert again["rows"][0]["epochs"] == 0
    assert again["rows"][0]["valid"] == trained["rows"][0]["valid"]
    assert again["rows"][0]["test"] == trained["rows"][0]["test"]
    assert again["test"] == trained["test"]

    write_planted(tmp_path / "dataset", "other", seed=1)
    with pytest.raises(
        InputError, match=r"teacher.pth was trained on data made with other.*dataset"
    ):
        quick(dataset="other", **changes, teacher_checkpoint=path)
    with pytest.raises(InputError, match=f"holds a {teacher}, expected a BPR"):
        quick(teacher="BPR", teacher_settings={}, teacher_checkpoint=path)
    (tmp_path / "dataset" / "planted").rename(tmp_path / "dataset" / "kept")
    write_planted(tmp_path / "dataset", seed=3)
    with pytest.raises(InputError, match=r"was trained on other interactions than planted has now"):
        quick(**changes, teacher_checkpoint=path)


def test_a_checkpoint_without_a_hash_of_its_data_is_accepted_with_a_warning(tmp_path, caplog):
    """RecBole's trainer writes no run.json; the settings of the data are still compared."""
    shared = {key: QUICK[key] for key in ("show_progress", "topk", "valid_metric")}
    run("LightGCN", "planted", settings={**shared, "epochs": 1, "embedding_size": 16})
    (path,) = (tmp_path / "saved").glob("LightGCN-*.pth")
    caplog.set_level("WARNING")
    start = {"teacher": "LightGCN", "teacher_settings": {}, "teacher_checkpoint": str(path)}
    quick(**start, n_pruning_runs=0, epochs=1)
    assert "does not say which interactions it was trained on" in caplog.text
    with pytest.raises(InputError, match=r"made with other settings \(seq_separator\)"):
        quick(**start, seq_separator="|")


@pytest.mark.parametrize("model", ["LightGCN", "EASE"])
def test_the_bytes_of_a_recbole_model_are_what_it_needs(model):
    """LightGCN's cache of final embeddings does not count; EASE's matrix does."""
    shared = {key: QUICK[key] for key in ("show_progress", "topk", "valid_metric")}
    settings = {"epochs": 1, "embedding_size": 16} if model == "LightGCN" else {}
    (row,) = run(model, "planted", settings={**shared, **settings})["rows"]
    if model == "LightGCN":
        assert row["entries"] == row["parameters"] == ENTRIES
        assert row["bytes"] == (ENTRIES + 2 * 16) * 4
    else:
        assert row["bytes"] > (N_ITEMS + 1) ** 2 * 4


@pytest.mark.parametrize(
    ("eval_step", "words"),
    [(1, "BPR cannot be ranked"), (3, "the training loss of BPR became NaN")],
)
def test_a_teacher_that_diverges_is_named(eval_step, words):
    settings = {"learning_rate": 1e30, "epochs": 3, "eval_step": eval_step}
    with pytest.raises(InputError, match=rf"{words}.*lower teacher_settings.learning_rate"):
        quick(teacher="BPR", teacher_settings=settings)


def test_metrics_that_recbole_computes_itself():
    record = quick(metrics=["Recall", "GAUC"], n_pruning_runs=1, epochs=1)
    assert 0.5 < record["test"]["gauc"] < 1.0


def test_a_run_on_sampled_lists_can_be_loaded_and_evaluated():
    changes = {"eval_args": {"mode": "uni5"}, "n_pruning_runs": 0, "epochs": 1}
    record = quick(**changes)
    from recbole.quick_start import load_data_and_model

    path = str(run_dir(record) / "student-00.safetensors")
    config, model, _, _, _, test_data = load_data_and_model(path)
    metrics = get_trainer(config["MODEL_TYPE"], config["model"])(config, model).evaluate(
        test_data, model_file=path
    )
    # The lists are sampled again, so only their lengths are the same.
    assert metrics.keys() == record["test"].keys()
    assert metrics["recall@20"] == record["test"]["recall@20"] == 1.0


def test_a_trainer_fits_once_and_evaluates_what_it_was_built_for(full):
    from recbole.data import create_dataset, data_preparation

    from recbole_lightgnn.config.recbole_config import build_config

    config = build_config("LightGNN", "planted", (), {**QUICK, "n_pruning_runs": 0, "epochs": 1})
    loaders = data_preparation(config, create_dataset(config))
    model = get_model("LightGNN")(config, loaders[0]._dataset)
    trainer = get_trainer(config["MODEL_TYPE"], "LightGNN")(config, model)
    trainer.fit(*loaders[:2])
    with pytest.raises(RuntimeError, match="a trainer fits once"):
        trainer.fit(*loaders[:2])
    with pytest.raises(InputError, match="holds a LightGNNTeacher, expected a LightGNN:"):
        trainer.evaluate(loaders[2], model_file=str(run_dir(full) / "teacher.safetensors"))
    deeper = run_dir(quick(n_layers=3, n_pruning_runs=0, epochs=1)) / "student-00.safetensors"
    with pytest.raises(InputError, match="was trained with n_layers 3, and here it is 2"):
        trainer.evaluate(loaders[2], model_file=str(deeper))
    other = run_dir(quick(item_degree_exponent=0.3, n_pruning_runs=0, epochs=1))
    with pytest.raises(InputError, match=r"with item_degree_exponent 0\.3, and here it is 0\.5"):
        trainer.evaluate(loaders[2], model_file=str(other / "student-00.safetensors"))


def test_the_rows_say_how_each_stage_was_trained(full):
    teacher, intermediate, *students = full["rows"]
    assert teacher["model"] == "LightGNNTeacher"
    assert teacher["settings"]["epochs"] == 8
    assert intermediate["settings"]["augmentation_cap"] == 4
    assert all("settings" not in row for row in students)
    assert full["settings"]["epochs"] == 3


def test_a_stage_may_sample_in_its_own_way(monkeypatch):
    from recbole_lightgnn.trainer.training import Training

    seen = {}
    fit = Training.fit

    def watched(self, data):
        seen[self.label.key] = data._sampler.distribution
        return fit(self, data)

    monkeypatch.setattr(Training, "fit", watched)
    own = {"train_neg_sample_args": {"distribution": "popularity", "sample_num": 1, "alpha": 0.5}}
    quick(teacher_settings=QUICK["teacher_settings"] | own, n_pruning_runs=0, epochs=1)
    assert seen == {"teacher": "popularity", "intermediate": "uniform", "student-00": "uniform"}


def test_an_embedding_term_is_refused_where_the_teacher_has_no_embeddings():
    with pytest.raises(InputError, match=r"_settings.embedding_kd_weight needs final embed"):
        quick(
            teacher="NeuMF",
            teacher_settings={"epochs": 1},
            intermediate_settings={"embedding_size": 16, "embedding_kd_weight": 0.1},
        )


def final(record):
    """Return the entry mask, the edge mask and the model of the final student."""
    model, _ = rebuilt(record)
    masks = [table.entry_mask for table in (model.user_embedding, model.item_embedding)]
    return torch.cat(masks), model.edge_mask, model


@pytest.mark.slow
@pytest.mark.parametrize("ablation", sorted(ablations()))
def test_every_ablation_is_one_setting_and_does_what_it_says(ablation, caplog):
    """Compare with the whole method from the same teacher: what differs, and what does not."""
    caplog.set_level("INFO")
    common = {"n_pruning_runs": 1, "epochs": 1, "score_importance": 5.0, "rotation": "none"}
    whole = quick(**common)
    caplog.clear()
    path = str(run_dir(whole) / "teacher.safetensors")
    record = quick(ablation=ablation, **common, teacher_checkpoint=path)
    assert record["settings"]["ablation"] == ablation
    assert ("intermediate" in stages(record)) == (ablation != "-IntKD")
    assert record["rows"][-1]["entries"] == round(0.8 * ENTRIES)
    assert record["rows"][-1]["interactions"] == whole["rows"][-1]["interactions"]

    entries, edges, model = final(record)
    whole_entries, whole_edges, whole_model = final(whole)
    # These ablations change only the pruning, so they are equal before it.
    same_start = ablation in ("none", "~EmbP", "~EdgeP", "~BothP", "-ImpD")
    assert (record["rows"][-2]["valid"] == whole["rows"][-2]["valid"]) == same_start
    if same_start:
        assert entries.equal(whole_entries) == (ablation not in ("~EmbP", "~BothP"))
        assert edges.equal(whole_edges) == (ablation in ("none", "~EmbP"))
    assert model.binary_edges == (ablation == "BnEdge")
    assert not whole_model.binary_edges
    last = [message for message in caplog.messages if "student 1/1 epoch 1" in message][-1]
    assert ("prediction_kd" in last) == (ablation != "-BiAln")
    assert ("interaction" in last) == (ablation == "-BiAln")


def test_the_papers_recipe_uses_all_of_equation_11(caplog):
    caplog.set_level("INFO")
    teacher = {"epochs": 1, "embedding_size": 16}
    record = quick(recipe="paper", n_pruning_runs=1, epochs=1, teacher_settings=teacher)
    last = [message for message in caplog.messages if "student 1/1 epoch 1" in message][-1]
    for term in ("interaction", "prediction_kd", "embedding_kd", "uniformity", "decay"):
        assert term in last
    assert record["settings"]["interaction_loss"] == "bpr"


def test_an_intermediate_without_augmentation_runs():
    changes = QUICK["intermediate_settings"] | {"augmentation": "none"}
    record = quick(intermediate_settings=changes, n_pruning_runs=1, epochs=1)
    assert record["rows"][1]["interactions_kept"] == 1.0


def test_frozen_models_are_propagated_once(monkeypatch):
    from recbole_lightgnn.models.teacher import LightGNNTeacher

    calls = []
    encode = LightGNNTeacher.encode
    monkeypatch.setattr(
        LightGNNTeacher, "encode", lambda self: calls.append(self.training) or encode(self)
    )
    path = run_dir(quick(n_pruning_runs=1)) / "teacher.safetensors"
    calls.clear()
    quick(n_pruning_runs=1, teacher_checkpoint=str(path))
    # Once to validate the checkpoint, to teach the later stages, and to test it.
    assert calls == [False]


def test_a_diverged_training_leaves_the_best_state(tmp_path):
    with pytest.raises(InputError, match="student 0/2: the loss is not a number"):
        quick(learning_rate=1e30, epochs=3)
    (folder,) = (tmp_path / "saved").glob("LightGNN-planted-*")
    assert [row["key"] for row in json.loads((folder / "run.json").read_text())["rows"]] == [
        "teacher",
        "intermediate",
    ]
    assert checkpoint.load(folder / "intermediate.safetensors")[1]["stage"] == "intermediate"


def test_a_checkpoint_of_another_dataset_or_stage_is_refused(full, tmp_path):
    write_planted(tmp_path / "dataset", "other", seed=1)
    teacher = str(run_dir(full) / "teacher.safetensors")
    with pytest.raises(InputError, match=r"was trained on other interactions.*planted.*other"):
        quick(dataset="other", teacher_checkpoint=teacher)
    with pytest.raises(InputError, match="holds a LightGNNTeacher, expected a LightGNNIntermedia"):
        quick(intermediate_checkpoint=teacher)


def test_a_checkpoint_that_is_no_whole_stage_is_refused(full, tmp_path):
    tensors, meta = checkpoint.load(run_dir(full) / "teacher.safetensors")
    path = tmp_path / "made.safetensors"
    checkpoint.save(path, tensors, {"key": "teacher", "epoch": 3})
    with pytest.raises(InputError, match="is the state of a training under way"):
        quick(teacher_checkpoint=str(path))
    del tensors["item_embedding"]
    checkpoint.save(path, tensors, meta)
    with pytest.raises(InputError, match=r"does not fit the LightGNNTeacher.*item_embedding"):
        quick(teacher_checkpoint=str(path))


@pytest.mark.parametrize("damage", ["truncated", "text", "pickle", "empty"])
def test_a_damaged_checkpoint_is_refused(full, damage, tmp_path):
    whole = (run_dir(full) / "teacher.safetensors").read_bytes()
    path = tmp_path / "damaged.safetensors"
    if damage == "pickle":
        torch.save({"model": "LightGNNTeacher"}, path)
    else:
        path.write_bytes({"truncated": whole[:-100], "text": b"hello", "empty": b""}[damage])
    with pytest.raises(InputError, match="damaged"):
        quick(teacher_checkpoint=str(path))


def test_recboles_own_api(tmp_path):
    from recbole.quick_start import load_data_and_model, run_recbole
    from recbole.utils.case_study import full_sort_topk

    result = run_recbole(
        model="LightGNN",
        dataset="planted",
        config_dict={**QUICK, "metrics": ["Recall", "NDCG"]},
    )
    (folder,) = (tmp_path / "saved").glob("LightGNN-planted-*")
    path = str(folder / "student-02.safetensors")
    config, model, _, _, _, test_data = load_data_and_model(model_file=path)
    assert config["model"] == "LightGNN"
    assert type(model) is get_model("LightGNN")
    users = test_data.dataset.token2id("user_id", ["0", "1", "2"])
    scores, items = full_sort_topk(users, model, test_data, k=5, device=config["device"])
    assert items.shape == (3, 5)
    table = model.final_embeddings()
    expected = (table[0][torch.as_tensor(users)][:, None] * table[1][items]).sum(-1)
    assert torch.allclose(scores, expected, atol=1e-6)
    assert result["test_result"]["recall@20"] > 0.9


def test_the_rows_hold_the_test_metrics_of_the_test_split(full):
    from recbole.quick_start import load_data_and_model

    from recbole_lightgnn.trainer.evaluation import FullRanking

    path = str(run_dir(full) / "student-01.safetensors")
    _, model, _, _, valid_data, test_data = load_data_and_model(path)
    model.eval()
    for split, data in (("valid", valid_data), ("test", test_data)):
        ranking = FullRanking(data, ["Recall", "NDCG"], [5, 20], model.device)
        metrics = ranking.evaluate(*model.final_embeddings())
        assert {k: full["rows"][3][split][k] for k in metrics} == metrics
    assert full["rows"][3]["valid"] != full["rows"][3]["test"]
