"""The command line and `quick_start.run`, on ml-100k and on small datasets."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.paths import ROOT

from recbole_lightgnn import __version__, quick_start
from recbole_lightgnn.cli.main import main
from recbole_lightgnn.cli.run import results_table
from recbole_lightgnn.cli.settings import describe_settings
from recbole_lightgnn.config.ablations import ablations
from recbole_lightgnn.config.files import defaults_of
from recbole_lightgnn.config.schema import describe
from recbole_lightgnn.registry import our_models

SCRIPT = ROOT / "run_recbole_lightgnn.py"
QUIET = ["--show_progress=False", "--state=error"]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def make_dataset(name="toy", rows=None, header="user_id:token\titem_id:token", suffix=""):
    """Write a dataset under ``dataset/``: 12 users with 10 of 60 items each."""
    if rows is None:
        rows = [f"u{u}\ti{(7 * u + 3 * k) % 60}" for u in range(12) for k in range(10)]
    folder = Path("dataset", name)
    folder.mkdir(parents=True, exist_ok=True)
    text = "\n".join([header, *rows]) + "\n"
    (folder / f"{name}{suffix}.inter").write_text(text, encoding="utf-8")


def bad(capsys, *arguments):
    """Run a command with bad input, and return the one line of its error."""
    assert main(list(arguments)) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len([line for line in lines if line.startswith("error: ")]) == 1
    assert lines[-1].startswith("error: ")
    assert not any(line.startswith("Traceback") for line in lines)
    return lines[-1]


# --- runs ------------------------------------------------------------------------------------


def test_a_model_of_recboles_runs_on_ml_100k_and_leaves_a_record(capsys, recwarn):
    arguments = ["run", "--model=BPR", "-d", "ml-100k", "--epochs=1", "--result_file=out/r.json"]
    assert main([*arguments, *QUIET]) == 0
    assert not [warning for warning in recwarn if "recbole/" in warning.filename]
    record = json.loads(Path("out/r.json").read_text())
    assert record["model"] == "BPR"
    assert set(record["test"]) == {
        f"{metric}@{k}" for metric in ("recall", "ndcg", "precision", "hit") for k in (10, 20, 40)
    }
    assert record["valid_metric"] == "recall@20"
    assert record["settings"]["epochs"] == record["rows"][0]["epochs"] == 1
    assert record["rows"][0]["bytes"] == 4 * 64 * (944 + 1683)
    fingerprint = record["dataset_fingerprint"]
    assert (fingerprint["users"], fingerprint["items"]) == (943, 1682)
    pairs = [fingerprint[split]["pairs"] for split in ("train", "valid", "test")]
    assert pairs == [80808, 9596, 9596]
    assert record["masking"] == "train+valid"
    printed = capsys.readouterr().out
    assert f"{record['test']['recall@20']:.4f}" in printed
    assert "record: out/r.json" in printed


def test_the_same_command_gives_the_same_metrics_and_the_record_a_default_place():
    make_dataset()
    records = []
    for _ in range(2):
        assert main(["run", "-m", "BPR", "-d", "toy", "--epochs=2", *QUIET]) == 0
        (file,) = Path("saved").glob("BPR-toy-*.json")
        records.append(json.loads(file.read_text()))
        file.unlink()
    for key in ("best_valid", "test", "dataset_fingerprint", "settings"):
        assert records[0][key] == records[1][key]
    assert len(list(Path("log/BPR").glob("*.log"))) >= 1


def test_flags_files_and_settings_reach_the_run():
    make_dataset()
    Path("a.yaml").write_text("epochs: 7\nembedding_size: 4\n")
    Path("b.yaml").write_text("model: BPR\ndataset: toy\nembedding_size: 8\n")
    record = quick_start.run(config_files=["a.yaml", "b.yaml"], settings={"epochs": 1, "seed": 5})
    settings = record["settings"]
    assert (settings["epochs"], settings["embedding_size"], settings["seed"]) == (1, 8, 5)
    assert (record["model"], record["dataset"], record["seed"]) == ("BPR", "toy", 5)


def test_the_masking_is_in_the_record():
    make_dataset()
    record = quick_start.run("Pop", "toy", settings={"eval_mask": "train", "epochs": 1})
    assert record["masking"] == record["settings"]["eval_mask"] == "train"


def test_a_presplit_dataset_needs_no_setting_and_its_pairs_are_counted():
    for part, users in (("train", 48), ("valid", 5), ("test", 6)):
        rows = [f"u{u % 12}\ti{7 * u + len(part)}" for u in range(users)]
        make_dataset("split", rows, suffix=f".{part}")
    record = quick_start.run("Pop", "split", settings={"epochs": 1})
    fingerprint = record["dataset_fingerprint"]
    assert [fingerprint[p]["pairs"] for p in ("train", "valid", "test")] == [48, 5, 6]


@pytest.mark.slow
def test_the_script_is_recboles_with_the_same_flags():
    make_dataset()
    command = [sys.executable, SCRIPT, "--model=BPR", "--dataset=toy", "--epochs=1", *QUIET]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "BPR" in done.stdout


@pytest.mark.slow
def test_interrupted_by_hand():
    make_dataset()
    command = [sys.executable, SCRIPT, "-m", "BPR", "-d", "toy", "--epochs=100000"]
    command += ["--stopping_step=100000", "--show_progress=False"]

    def heed_interrupts():
        # A background job, as in CI, inherits that the signal is ignored.
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts
    ) as process:
        for line in process.stderr:
            if "epoch 1 training" in line:
                process.send_signal(signal.SIGINT)
                break
        rest = process.stderr.read()
    assert process.returncode == 130
    assert rest.splitlines()[-1] == "interrupted"
    assert "Traceback" not in rest


# --- bad input -------------------------------------------------------------------------------


def test_more_than_one_process_is_refused(capsys):
    line = bad(capsys, "run", "-m", "BPR", "--nproc=2")
    assert "more than one process is not supported yet" in line


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        (["-m", "LightGNM"], ["'LightGNM'", "did you mean 'LightGNN'?"]),
        (["-m", "lightgcn"], ["'lightgcn'", "did you mean 'LightGCN'?"]),
        (["-d", "toy", "--recipe=paper", "--teacher=SGL", "--epochs=0"], ["epochs must be"]),
        (["-d", "toy", "--teacher_settings.embedding_size=32"], ["embedding_size 32 of the teach"]),
        (["-d", "toy", "--checkpoint_dir=bad.yaml/x"], ["bad.yaml is no writable folder"]),
        (
            ["-d", "yelp"],
            ["dataset/yelp/yelp.train.inter", "`recbole-lightgnn data download yelp`"],
        ),
        (["-d", "tory"], ["'tory' not found", "did you mean 'toy'?", "dataset/tory/tory.inter"]),
        (["-d", "toy", "--temperatur=1"], ["unknown setting temperatur", "'temperature'"]),
        (["-d", "toy", "--temperature=0"], ["temperature must be", "> 0", "got 0"]),
        (["-d", "toy", "--edge_ratio=1.5"], ["edge_ratio must be", "0 < x <= 1", "got 1.5"]),
        (["-d", "toy", "--epochs=0"], ["epochs must be an integer >= 1, got 0"]),
        (["-d", "toy", "-m", "BPR", "--epochs=0"], ["epochs must be an integer >= 1"]),
        (["-d", "toy", "--recipe=papr"], ["recipe", "'papr'", "'paper'"]),
        (["-d", "toy", "--epochs=1", "--epochs=2"], ["--epochs is given twice"]),
        (["-d", "toy", "--topk=[1"], ["--topk", "is not YAML"]),
        (["-d", "toy", "--epochs", "3"], ["--epochs: settings are written --epochs=VALUE"]),
        (["-d", "toy", "stray"], ["unexpected argument 'stray'"]),
        (["--config_files=no.yaml"], ["config file no.yaml cannot be read: No such file"]),
        (["--config_files=bad.yaml"], ["config file bad.yaml is not YAML"]),
        (["--config_files=list.yaml"], ["config file list.yaml must hold `key: value` lines"]),
        (["-d", "toy", "--result_file=dataset"], ["result_file dataset is a folder"]),
        (["-m", "EASE", "-d", "toy", "--resume"], ["EASE is RecBole's own and cannot be resumed"]),
        (
            ["-m", "BPR", "-d", "toy", "--metrics=[AUC,Recall]"],
            ["Ranking metrics and value metrics can not be used at the same time"],
        ),
    ],
)
def test_bad_input_before_anything_is_started(capsys, arguments, facts):
    make_dataset()
    Path("bad.yaml").write_text("a: [1\n")
    Path("list.yaml").write_text("- a\n")
    before = sorted(map(str, Path().rglob("*")))
    line = bad(capsys, "run", *arguments)
    for fact in facts:
        assert fact in line
    assert sorted(map(str, Path().rglob("*"))) == before, "no file is written"


@pytest.mark.parametrize(
    ("header", "rows", "facts"),
    [
        ("user_id:token item_id:token", None, ["toy.inter, line 1", "NAME:TYPE"]),
        ("user_id:token\titem_id:number", None, ["line 1", "got 'item_id:number'"]),
        ("user:token\titem_id:token", None, ["no column 'user_id' (setting USER_ID_FIELD)"]),
        ("", None, ["toy.inter, line 1"]),
        (
            "user_id:token\titem_id:token",
            ["a\tb\tc\td", "a\tb\tc\td"],
            ["toy.inter, line 2: 4 fields where"],
        ),
        ("user_id:token\titem_id:token", [], ["toy.inter has no lines below its header"]),
    ],
)
def test_a_malformed_dataset(capsys, header, rows, facts):
    make_dataset(header=header, rows=rows)
    line = bad(capsys, "run", "-m", "BPR", "-d", "toy", *QUIET)
    for fact in facts:
        assert fact in line


@pytest.mark.parametrize(
    ("split", "name"),
    [("{'RS': [1.0, 0.0, 0.0]}", "valid"), ("{'LS': 'valid_only'}", "test")],
)
def test_a_split_with_no_users(capsys, split, name):
    make_dataset()
    arguments = ["run", "-m", "BPR", "-d", "toy", f"--eval_args={{'split': {split}}}", *QUIET]
    line = bad(capsys, *arguments)
    assert f"the {name} split of 'toy' has no users" in line
    assert split.strip("{}").split(":")[0] in line


def test_repeated_interactions_are_refused_for_our_models(capsys):
    make_dataset(rows=[f"u{u}\ti{u + k % 9}" for u in range(9) for k in range(10)])
    line = bad(capsys, "run", "-m", "LightGNNTeacher", "-d", "toy", *QUIET)
    assert "'toy' has 9 interactions that repeat a user-item pair" in line
    assert "rm_dup_inter" in line


def test_a_list_longer_than_the_catalogue(capsys):
    make_dataset()
    line = bad(capsys, "run", "-m", "BPR", "-d", "toy", "--topk=[20,90]", *QUIET)
    assert "topk is 90, but 'toy' has only 60 items" in line


def test_a_loss_that_is_not_a_number(capsys):
    make_dataset()
    arguments = ["-m", "BPR", "-d", "toy", "--learning_rate=1e30", "--epochs=50", *QUIET]
    line = bad(capsys, "run", *arguments, "--eval_step=50")
    assert "the training loss of BPR became NaN: lower learning_rate (now 1e+30)" in line
    line = bad(capsys, "run", *arguments)
    assert "BPR cannot be ranked, scores must be finite: the training has diverged; lower" in line


def test_train_masking_needs_a_full_ranking(capsys):
    make_dataset()
    arguments = ["-m", "BPR", "-d", "toy", "--eval_mask=train", "--eval_args={mode: uni5}"]
    assert "needs a full ranking" in bad(capsys, "run", *arguments, *QUIET)


def test_importing_from_nowhere(capsys):
    assert "nowhere" in bad(capsys, "import", "paper", "nowhere", "--name", "x")


def test_an_unknown_command_is_one_line(capsys):
    assert "invalid choice: 'runn'" in bad(capsys, "runn")


def test_an_internal_error_is_one_line_and_shows_its_traceback_with_debug(capsys, monkeypatch):
    def fail(*_, **__):
        raise KeyError("a\nb")

    monkeypatch.setattr(quick_start, "run", fail)
    assert main(["run"]) == 1
    line = "internal error: KeyError: 'a\\nb' (run with --debug for the traceback)\n"
    assert capsys.readouterr().err == line
    assert main(["run", "--debug"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("Traceback")
    assert error.endswith(line)


@pytest.mark.parametrize("package", ["recbole", "torch"])
def test_a_missing_package_is_named_with_what_to_do(package, monkeypatch, capsys):
    def missing(*arguments, **options):
        raise ModuleNotFoundError(f"No module named '{package}.x'", name=f"{package}.x")

    monkeypatch.setattr("recbole_lightgnn.cli.settings.describe_settings", missing)
    assert main(["settings", "LightGNN"]) == 2
    assert capsys.readouterr().err.startswith(
        f"error: {package} is not installed: run `pip install"
    )


# --- what is printed -------------------------------------------------------------------------


@pytest.mark.parametrize("model", our_models())
def test_settings_lists_every_key_with_its_default_meaning_and_range(model):
    lines = {line.split()[0]: line for line in describe_settings(model) if line}
    for key, setting in describe(model).items():
        assert setting.meaning in lines[key]
        assert setting.allowed in lines[key]
    for key, value in defaults_of(model).items():
        assert lines[key].split()[1].startswith(str(value).split()[0] if value is not None else "~")


def test_settings_of_a_model_of_recboles():
    lines = {line.split()[0]: line for line in describe_settings("SGL") if line}
    assert "0.5" in lines["ssl_tau"]
    assert "temperature in softmax" in lines["ssl_tau"]
    assert "Recall@20" in lines["valid_metric"]


def test_settings_names_the_ablations_and_recipes(capsys):
    assert main(["settings", "LightGNN"]) == 0
    printed = capsys.readouterr().out
    assert " | ".join(ablations()) in printed
    assert "default | auto | paper" in printed


def test_version(capsys):
    assert main(["version"]) == 0
    assert capsys.readouterr().out == f"recbole-lightgnn {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["settings", "LightGNN"],
        ["run", "--help"],
        ["tune", "--help"],
        ["data", "show", "--help"],
        ["bench", "ops", "--help"],
        ["version"],
    ],
)
def test_help_and_settings_load_no_heavy_library(arguments):
    code = (
        "import sys\nfrom recbole_lightgnn.cli.main import main\n"
        f"try: main({arguments})\nexcept SystemExit: pass\n"
        "sys.exit(bool({'torch', 'numpy', 'recbole', 'pandas'} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": str(SCRIPT.parent)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True)


def test_the_results_table_has_one_line_a_row():
    metrics = {"recall@10": 0.5, "recall@20": 0.12345, "ndcg@20": 0.1}
    rows = [
        {"stage": "teacher", "run": None, "valid": metrics, "test": metrics, "seconds": 1.26},
        {
            "stage": "student",
            "run": 1,
            "entries": 80,
            "entries_kept": 1 / 3,
            "valid": metrics,
            "test": metrics,
        },
    ]
    head, first, second = results_table(rows).splitlines()
    assert head.split()[:3] == ["stage", "run", "epochs"]
    assert "recall@10" not in head
    shown = 2 * ["0.1235", "0.1000"]
    assert first.split() == ["teacher", "-", "-", "1.3", "-", "-", "-", "-", "-", *shown]
    assert second.split() == ["student", "1", "-", "-", "-", "-", "80", "0.333", "-", *shown]


@pytest.mark.parametrize("error", ["OSError", "ValueError", "ImportError"])
def test_a_torch_that_does_not_import_is_named_with_what_to_do(error, tmp_path):
    (tmp_path / "torch").mkdir()
    code = f"raise {error}('libcudnn.so.9: cannot open shared object file')"
    (tmp_path / "torch" / "__init__.py").write_text(code)
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--model=BPR", "--dataset=ml-100k"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), str(ROOT)))},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr == (
        "error: torch does not import here: libcudnn.so.9: cannot open shared object file; "
        "install a build of torch for this machine, with what it requires\n"
    )


@pytest.mark.parametrize("command", [["settings", "LightGNN"], ["version"]])
def test_a_reader_that_has_ended_is_no_error(command):
    """As in ``recbole-lightgnn settings LightGNN | head -1``."""
    reader, writer = os.pipe()
    os.close(reader)
    code = "import sys; from recbole_lightgnn.cli.main import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, *command],
        env={**os.environ, "PYTHONUNBUFFERED": ""},
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")
