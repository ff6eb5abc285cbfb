"""``recbole-lightgnn ablate``: shared stages, continued studies and tables."""

import json
import re
from pathlib import Path

import pytest
from helpers.planted import write_planted

from recbole_lightgnn.cli.main import main
from recbole_lightgnn.cli.options import read_settings
from recbole_lightgnn.config.files import merge, nested, read_yaml
from recbole_lightgnn.config.recbole_config import build_config
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.quick_start import run
from recbole_lightgnn.registry import STUDENT, properties_dir
from recbole_lightgnn.tuning.ablation import Variant, read_variants

QUICK = ["--topk=[5,20]", "--valid_metric=Recall@5", "--embedding_size=16", "--epochs=2"]
QUICK += ["--n_pruning_runs=1", "--teacher_settings.embedding_size=16"]
QUICK += ["--teacher_settings.epochs=3", "--seed=1"]
DIRECT = [*QUICK, "--use_intermediate=False", "--n_teachers=2"]
VARIANTS = """
wide teacher: {teacher_settings.embedding_size: 24}
no rotation: {rotation: none}
nothing: {n_layers: 2}
the same teacher: {teacher_settings.n_layers: 3}
diverges: {learning_rate: 1.0e+30}
"""


@pytest.fixture(autouse=True)
def _world(tmp_path):
    write_planted(tmp_path / "dataset")
    Path("variants.yaml").write_text(VARIANTS, encoding="utf-8")


def ablate(*arguments):
    return main(["ablate", "--dataset=planted", "--variants=variants.yaml", *arguments])


def _without_teacher(flags):
    return [flag for flag in flags if not flag.startswith("--teacher_settings")]


def record(name):
    return json.loads(Path("out", f"{name}.json").read_text())


def checkpoints(name):
    return [row.get("checkpoint") for row in record(name)["rows"] if row["stage"] == "teacher"]


def test_stages_that_a_variant_leaves_alone_are_trained_once(capsys):
    assert ablate("--out=out", *DIRECT) == 1  # one variant diverges, the others finish
    printed = capsys.readouterr()
    assert "4/4 diverges failed: " in printed.out
    assert "diverges failed: " in printed.err
    assert not list(Path("out").glob("*nothing*"))
    assert not list(Path("out").glob("the-same-teacher*"))

    assert checkpoints("all") == [None, None, None]
    assert checkpoints("wide-teacher") == [None, None, None]
    first, second, added = checkpoints("no-rotation")
    assert (Path(first).name, Path(second).name) == (
        "teacher.safetensors",
        "teacher-01.safetensors",
    )
    assert added is None
    tests = {name: [row["test"] for row in record(name)["rows"]] for name in ("all", "no-rotation")}
    assert (
        tests["no-rotation"][:4] == tests["all"][:4]
    )  # teachers, their sum, and the unpruned student
    assert tests["no-rotation"][4] != tests["all"][4]

    splits = ("validation", "test")
    heads = [printed.out.index(f"recall@20 on planted, {split}, ") for split in splits]
    tables = {"valid": printed.out[heads[0] : heads[1]], "test": printed.out[heads[1] :]}
    for split, text in tables.items():
        rows = [re.findall(r"[^|]+", line) for line in text.splitlines() if line.startswith("| ")]
        assert [row[0].strip() for row in rows[1:]] == ["all", "wide teacher", "no rotation"]
        whole, wide = (
            [row[split]["recall@20"] for row in record(name)["rows"][2:]]
            for name in ("all", "wide-teacher")
        )
        for line in (whole, wide):
            line.append(sum(line[1:]) / len(line[1:]))  # mean of the students
        assert [float(cell) for cell in rows[1][1:]] == pytest.approx(whole, abs=6e-5)
        expected = [(w - a) * 1e4 for w, a in zip(wide, whole, strict=True)]
        assert [float(cell) for cell in rows[2][1:]] == pytest.approx(expected, abs=0.51)
    results = json.loads(Path("out/ablation.json").read_text())
    assert [result["variant"] for result in results] == ["all", "wide teacher", "no rotation"]
    assert results[2]["changes"] == {"rotation": "none"}
    assert (
        results[1]["rows"][-1]["valid"]["recall@20"]
        == record("wide-teacher")["rows"][-1]["valid"]["recall@20"]
    )


@pytest.mark.slow
def test_the_same_command_runs_only_unfinished_variants(capsys):
    assert ablate("--out=out", "--only=no rotation", *DIRECT) == 0
    whole = Path("out/all.json").read_bytes()
    again = Path("out/no-rotation.json")
    before = [row["test"] for row in record("no-rotation")["rows"]]
    again.unlink()  # as if the process was killed just before it wrote the record
    capsys.readouterr()
    assert ablate("--out=out", "--only=no rotation", *DIRECT) == 0
    assert capsys.readouterr().out.splitlines()[0] == "2/2 no rotation"
    assert Path("out/all.json").read_bytes() == whole
    assert record("no-rotation")["resumed"]
    assert [row["test"] for row in record("no-rotation")["rows"]] == before
    assert len(list(Path("out/runs/no-rotation").iterdir())) == 1

    assert ablate("--out=out", "--only=wide teacher", *DIRECT) == 0  # one more variant
    assert capsys.readouterr().out.splitlines()[0] == "2/2 wide teacher"
    # The number of users ranked at once depends on the memory, and may be changed.
    assert ablate("--out=out", "--only=no rotation", *DIRECT, "--eval_batch_size=100") == 0
    assert [row["test"] for row in record("no-rotation")["rows"]] == before
    capsys.readouterr()
    Path("variants.yaml").write_text("no rotation: {rotation: pca}", encoding="utf-8")
    assert ablate("--out=out", *DIRECT) == 2
    assert "holds a study of other changes of 'no rotation'" in capsys.readouterr().err
    Path("variants.yaml").write_text(VARIANTS, encoding="utf-8")

    assert ablate("--out=out", "--only=no rotation", *DIRECT, "--epochs=3") == 2
    assert "given twice" in capsys.readouterr().err
    assert ablate("--out=out", "--only=no rotation", *DIRECT[:-1]) == 2
    assert "out holds a study of other settings: give the command" in capsys.readouterr().err


def change(file, **changes):
    content = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: value for key, value in content.items() if value != "gone"}))


def test_a_study_is_of_one_dataset_and_its_records_are_its_own(capsys, tmp_path):
    once = ["--out=out", "--only=no rotation", *DIRECT, "--n_teachers=1"]
    once.remove("--n_teachers=2")
    assert ablate(*once) == 0
    study, file = Path("out/study.json"), Path("out/no-rotation.json")
    before, settings = study.read_bytes(), record("no-rotation")["settings"]
    del settings["split_seed"]  # the version that began the study did not have it
    change(study, dataset_fingerprint="gone")
    change(file, settings=settings)
    capsys.readouterr()
    assert ablate(*once) == 0
    assert "/2 " not in capsys.readouterr().out, "a finished variant was run again"
    assert study.read_bytes() == before

    def refused(*facts):
        assert ablate(*once) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert all(fact in line for fact in facts), line

    change(file, settings=settings | {"rotation": "pca", "epochs": 7})
    refused("no-rotation.json is the record of a run with other epochs, rotation: remove it")
    (tmp_path / "dataset").rename(tmp_path / "moved")
    write_planted(tmp_path / "dataset", seed=1)
    refused("out holds a study of other interactions: give the command")
    change(study, dataset_fingerprint="gone")
    refused("all.json is the record of a run with other interactions: remove it")
    assert "dataset_fingerprint" not in json.loads(study.read_text())


def test_an_intermediate_that_a_variant_leaves_alone_is_trained_once():
    """The whole recipe has a teacher's checkpoint; the variant gets the intermediate instead."""
    small = [
        *QUICK,
        "--intermediate_settings.embedding_size=16",
        "--intermediate_settings.epochs=1",
    ]
    settings = {"epochs": 1, "embedding_size": 16, "checkpoint_dir": "teacher", "seed": 1}
    run("LightGNNTeacher", "planted", settings=settings | {"state": "error"})
    (teacher,) = Path("teacher").glob("*/teacher.safetensors")
    given = ["--only=no rotation,wide teacher", f"--teacher_checkpoint={teacher}"]
    assert ablate("--out=out", *given, *_without_teacher(small)) == 0
    (row, *_) = record("no-rotation")["rows"]
    assert row["stage"] == "intermediate"
    assert Path(row["checkpoint"]).name == "intermediate.safetensors"
    assert not list(Path("out").glob("wide-teacher*")), "a teacher was trained"


def test_settings_of_a_stage_that_a_variant_does_not_train_are_not_refused():
    """They are those of the whole recipe. The variant loads its other stages."""
    Path("variants.yaml").write_text("direct: {use_intermediate: False}", encoding="utf-8")
    of_stage = ["--intermediate_settings.embedding_size=16", "--intermediate_settings.epochs=1"]
    assert ablate("--out=out", *QUICK, *of_stage) == 0
    assert [row["stage"] for row in record("direct")["rows"]] == ["teacher", "student", "student"]
    assert record("direct")["rows"][0]["epochs"] == 0  # loaded
    assert ablate("--out=out", *QUICK, *of_stage) == 0  # continued, with the same settings
    with pytest.raises(InputError, match=r"intermediate_settings .* as use_intermediate is False"):
        build_config(STUDENT, "planted", (), {"use_intermediate": False, **read_settings(of_stage)})


def test_checkpoints_that_are_given_are_every_variants():
    settings = {"epochs": 1, "embedding_size": 16, "checkpoint_dir": "teacher", "seed": 1}
    run("LightGNNTeacher", "planted", settings=settings | {"state": "error"})
    (teacher,) = Path("teacher").glob("*/teacher.safetensors")
    given = ["--use_intermediate=False", f"--teacher_checkpoint={teacher}"]
    assert ablate("--out=out", "--only=no rotation", *_without_teacher(QUICK), *given) == 0
    assert checkpoints("all") == checkpoints("no-rotation") == [str(teacher)]


def test_a_variant_with_an_unexpected_error_is_reported_and_the_others_go_on(capsys, monkeypatch):
    def no_memory(*arguments, settings, **rest):
        if settings.get("n_layers") == 1:
            raise RuntimeError("not enough memory:\nyou tried to allocate 18 GB")
        return run(*arguments, settings=settings, **rest)

    monkeypatch.setattr("recbole_lightgnn.quick_start.run", no_memory)
    Path("variants.yaml").write_text("one layer: {n_layers: 1}\nno rotation: {rotation: none}")
    assert ablate("--out=out", *QUICK, "--use_intermediate=False") == 1
    printed = capsys.readouterr()
    reason = "one layer failed: RuntimeError: not enough memory: you tried to allocate 18 GB"
    assert f"2/3 {reason}\n" in printed.out
    assert f"{reason}\n" in printed.err
    assert Path("out/no-rotation.json").exists()
    monkeypatch.setattr("recbole_lightgnn.quick_start.run", lambda *_, **__: 1 / 0)
    assert ablate("--out=new", *QUICK, "--use_intermediate=False") == 1, (
        "a study continued without the whole recipe"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only=none such"], "--only: variants.yaml has no variant 'none such'; it has 'wide"),
        (["--embeding_size=16"], "unknown setting embeding_size (did you mean 'embedding_size'?)"),
        (["--dataset=nowhere"], "nowhere"),
    ],
)
def test_wrong_commands_are_refused_before_anything_is_trained(arguments, message, capsys):
    assert ablate("--out=out", *arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
    assert not Path("out").exists()


@pytest.mark.parametrize("text", ["all: {n_layers: 1}", "x: 3", "x: {}", "x:"])
def test_a_file_of_another_form_is_refused(text):
    Path("variants.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"variants.yaml: '\w+' must be a variant's name"):
        read_variants(Path("variants.yaml"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A b: {n_layers: 1}\na-b: {n_layers: 3}", "'a-b' and 'A b' would have one file, a-b.json"),
        ("All: {n_layers: 1}", "'All' and the study would have one file, all.json: rename it"),
        ("study: {n_layers: 1}", "'study' and the study would have one file"),
        ("Ablation: {n_layers: 1}", "'Ablation' and the study would have one file"),
    ],
)
def test_names_that_would_have_one_file_are_refused(text, words):
    Path("variants.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=re.escape(words)):
        read_variants(Path("variants.yaml"))


def test_a_variant_with_an_unknown_setting_is_refused(capsys):
    Path("variants.yaml").write_text("x: {rotatoin: none}", encoding="utf-8")
    assert ablate("--out=out", *DIRECT) == 2
    assert "rotatoin" in capsys.readouterr().err


@pytest.mark.parametrize("dataset", ["yelp", "gowalla"])
def test_our_variants_can_be_run_on_the_datasets_of_the_results(dataset, tmp_path):
    student = read_yaml(properties_dir() / "dataset" / f"{dataset}.yaml")[STUDENT]
    teacher = read_yaml(properties_dir() / "dataset" / f"{dataset}.yaml")["LightGNNTeacher"]
    for variant in read_variants(properties_dir() / "study" / "ablation.yaml"):
        settings = {**student, "teacher_settings": dict(teacher)}
        merge(settings, nested(variant.changes))
        build_config(STUDENT, "planted", (), settings)  # raises if a setting is invalid


def test_the_settings_that_a_variant_touches():
    variant = Variant("BPR's teacher", {"teacher_settings.epochs": 1})
    assert variant.touches("teacher_settings")
    assert not variant.touches("teacher", "settings")
    assert variant.file_name == "bpr-s-teacher"


def test_a_variant_over_the_batch_gives_a_fitted_temperature_a_number(capsys):
    """``recipe: auto`` fits the temperature of the distillation, by all items."""
    text = "over the batch: {batch_by: interaction}\nwider list: {prediction_kd_items: 20}\n"
    Path("variants.yaml").write_text(text, encoding="utf-8")
    found = {"recipe": "auto", "teachers": [{"model": "LightGNNTeacher", "epochs": 2}]}
    Path("recipe.yaml").write_text(json.dumps(found), encoding="utf-8")
    quick = [flag for flag in QUICK if not flag.startswith("--teacher_settings")]
    assert ablate("--out=out", "--config_files=recipe.yaml", *quick) == 0
    used = {
        name: record(name)["settings"]["prediction_kd_temperature"]
        for name in ("all", "over-the-batch", "wider-list")
    }
    assert used == {"all": None, "over-the-batch": 0.5, "wider-list": None}
