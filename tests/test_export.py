"""Export of a finished run on the planted dataset: metrics, content and size of the file."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.model_files import SECRET, kept_pairs
from helpers.paths import ROOT
from helpers.planted import N_ITEMS, N_USERS

from recbole_lightgnn.cli.main import main
from recbole_lightgnn.export import export, metrics_of, served_model
from recbole_lightgnn.quick_start import run
from recbole_lightgnn.runs.finished_run import TrainedRun
from recbole_lightgnn.serving.model import read
from recbole_lightgnn.serving.recommender import Recommender


def opened_again(trained):
    """The same run, read from its folder again."""
    return TrainedRun(trained.folder.path)


# --- metrics and bytes ----------------------------------------------------------------------------


@pytest.mark.parametrize("row", ["student-02", "student-00", "intermediate", "teacher"])
@pytest.mark.parametrize("form", [None, "final"])
@pytest.mark.parametrize("split", ["valid", "test"])
def test_metrics_from_the_file_are_those_of_the_run(trained, tmp_path, row, form, split):
    result = export(trained, tmp_path / "m.lgnn", row=row, form=form)
    loaded = Recommender.load(tmp_path / "m.lgnn")
    expected = trained.row(row)[split]
    assert expected["recall@20"] > 0.5
    assert metrics_of(loaded, trained, row, split) == pytest.approx(expected, abs=1e-6)
    assert result["run_valid"] == trained.row(row)["valid"]
    assert result["valid"] == pytest.approx(result["run_valid"], abs=1e-6)


@pytest.mark.parametrize(
    ("values", "form", "error"),
    [
        *(("float16", form, 2e-3) for form in ("graph", "final")),
        *(("int8", form, 3e-2) for form in ("graph", "final")),
    ],
)
def test_fewer_bits_change_metrics_little(trained, tmp_path, values, form, error):
    exact = Recommender(served_model(trained, "student-02", form="graph"))
    export(trained, tmp_path / "m.lgnn", values=values, form=form)
    loaded = Recommender.load(tmp_path / "m.lgnn")
    for got, truth in ((loaded.user, exact.user), (loaded.item, exact.item)):
        assert abs(got - truth).max() < error * abs(truth).max()
        assert abs(got - truth).max() > 0
    metrics = metrics_of(loaded, trained, "student-02")
    assert metrics["recall@20"] == pytest.approx(trained.row()["valid"]["recall@20"], rel=0.01)


def test_embeddings_belong_to_the_right_names(trained):
    """The file orders users and items otherwise than RecBole."""
    model = trained.model("student-01")
    recommender = Recommender(served_model(trained, "student-01", form="graph"))
    user, item = (table.numpy() for table in model.final_embeddings())
    data = trained.dataset
    for number, token in list(enumerate(data.field2id_token["user_id"]))[1::13]:
        np.testing.assert_allclose(
            recommender.user[recommender.users.number(token)], user[number], rtol=1e-5, atol=1e-6
        )
    for number, token in list(enumerate(data.field2id_token["item_id"]))[1::13]:
        np.testing.assert_allclose(
            recommender.item[recommender.items.number(token)], item[number], rtol=1e-5, atol=1e-6
        )


def test_the_same_run_gives_the_same_bytes(trained, tmp_path):
    for name, options in (
        ("a", {"values": "int8"}),
        ("b", {"ids": "hashed", "secret": SECRET}),
        ("c", {"form": "final", "values": "float16", "seen": "all"}),
    ):
        files = [tmp_path / f"{name}{repeat}" for repeat in range(2)]
        for file in files:
            export(opened_again(trained), file, **options)
        assert files[0].read_bytes() == files[1].read_bytes()


def test_the_form_with_the_smaller_file_is_chosen(trained, tmp_path):
    sizes = {
        form: export(trained, tmp_path / "m.lgnn", form=form, values="int8")["bytes"]
        for form in ("graph", "final")
    }
    result = export(trained, tmp_path / "m.lgnn", values="int8")
    assert result["form"] == min(sizes, key=sizes.get)
    assert result["bytes"] == (tmp_path / "m.lgnn").stat().st_size == min(sizes.values())
    assert result["of_dense"] == result["bytes"] / (4 * 64 * (N_USERS + N_ITEMS))
    assert export(trained, tmp_path / "m.lgnn", row="teacher")["form"] == "final"


def test_the_card_has_origin_metrics_and_settings(trained, tmp_path):
    export(trained, tmp_path / "m.lgnn", row="student-01")
    card, row = read(tmp_path / "m.lgnn").card, trained.row("student-01")
    assert (card["dataset"], card["row"], card["model"]) == ("planted", "student-01", "LightGNN")
    assert card["data"] == json.loads((trained.folder.path / "run.json").read_text())["data"]
    for key in ("valid", "test", "interactions", "entries_kept"):
        assert card[key] == row[key]
    assert card["settings"]["n_layers"] == 2
    assert card["masking"] == "train+valid"
    assert str(Path.home()) not in json.dumps(card)
    assert os.sep not in json.dumps(card)


# --- privacy --------------------------------------------------------------------------------------


def pairs_in(file):
    """All user-item pairs in a file: edges and seen interactions."""
    model = read(file)
    sets = [model.seen, *([model.graph.pairs] if model.graph else [])]
    return {
        (int(user), int(item))
        for pairs in sets
        for user, item in zip(
            model.users.names(pairs.user), model.items.names(pairs.item), strict=True
        )
    }


@pytest.mark.parametrize("form", ["graph", "final"])
def test_pruned_interactions_are_absent(place, trained, tmp_path, form):
    train = place[2]["train"]
    export(trained, tmp_path / "kept.lgnn", form=form)
    listed = pairs_in(tmp_path / "kept.lgnn")
    assert listed == kept_pairs(trained, "student-02")
    assert len(train - listed) == len(train) - trained.row()["interactions"] > 50
    export(trained, tmp_path / "all.lgnn", form=form, seen="all")
    assert pairs_in(tmp_path / "all.lgnn") == train


def test_a_file_is_the_same_whichever_interactions_were_pruned(trained, tmp_path, monkeypatch):
    """Pruned interactions count in the degrees of users and items, and nowhere else in the file."""
    export(trained, tmp_path / "a.lgnn", form="graph")
    export(trained, tmp_path / "c.lgnn", form="graph", seen="all")
    model = trained.model("student-02")
    pattern = model.observed.interactions.pattern
    pruned = (~model.edge_mask).nonzero().squeeze(1)
    user, item = pattern.row, pattern.col
    pairs = set(zip(user.tolist(), item.tolist(), strict=True))
    a, b = next(
        (a, b)
        for a in pruned.tolist()
        for b in pruned.tolist()
        if {(int(user[a]), int(item[b])), (int(user[b]), int(item[a]))}.isdisjoint(pairs)
    )
    item[[a, b]] = item[[b, a]]  # swaps the items of two users, so that all degrees stay equal
    monkeypatch.setattr(type(pattern), "col", property(lambda _: item))
    export(trained, tmp_path / "b.lgnn", form="graph")
    assert (tmp_path / "a.lgnn").read_bytes() == (tmp_path / "b.lgnn").read_bytes()
    export(trained, tmp_path / "d.lgnn", form="graph", seen="all")
    assert (tmp_path / "c.lgnn").read_bytes() != (tmp_path / "d.lgnn").read_bytes()


@pytest.mark.parametrize(("ids", "in_file"), [("tokens", True), ("hashed", False), ("none", False)])
def test_tokens_are_in_the_file_only_if_asked_for(tmp_path, monkeypatch, ids, in_file):
    monkeypatch.chdir(tmp_path)
    rows = [f"user-{u:03d}\titem-{(u * 7 + k * 3) % 20:02d}" for u in range(30) for k in range(8)]
    folder = tmp_path / "dataset" / "named"
    folder.mkdir(parents=True)
    header = "user_id:token\titem_id:token"
    (folder / "named.inter").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    record = run("LightGNNTeacher", "named", settings={"epochs": 1, "show_progress": False})
    secret = SECRET if ids == "hashed" else None
    trained = TrainedRun(Path(record["result_file"]).parent)
    export(trained, Path("m.lgnn"), ids=ids, secret=secret, values="int8", seen="none")
    content = Path("m.lgnn").read_bytes()
    # The bytes of the file may be deflated; search the arrays too.
    arrays = b"".join(array.tobytes() for array in _arrays(content).values())
    for token in (b"user-007", b"item-13"):
        assert (token in arrays) == in_file
        assert (token in content + arrays) == in_file
    # With hashed names, the hashes of the splits in the card are keyed too.
    data = trained.folder.content["data"]
    assert (Recommender.load("m.lgnn").card["data"] == data) == (ids != "hashed")
    assert (data["train"].encode() in content) == (ids != "hashed")
    recommender = Recommender.load("m.lgnn", secret)
    named = {"tokens": "user-007", "hashed": "user-007", "none": 7}[ids]
    best = recommender.recommend([named], 3).items[0]
    if ids == "tokens":
        assert all(item.startswith("item-") for item in best)
    elif ids == "none":  # numbers in the order of the tokens
        model = trained.model("teacher")
        number = list(trained.dataset.field2id_token["user_id"]).index("user-007")
        scores = model.final_embeddings()[0][number] @ model.final_embeddings()[1].T
        scores[0] = -np.inf
        tokens = trained.dataset.field2id_token["item_id"][scores.topk(1).indices.numpy()]
        exact = export(trained, Path("x.lgnn"), ids=ids, seen="none") and Recommender.load("x.lgnn")
        assert f"item-{int(exact.recommend([7], 1).items[0, 0]):02d}" == tokens[0]


def _arrays(content):
    from recbole_lightgnn.serving import container

    return container.unpack(np.frombuffer(content, np.uint8), "it")[1]


# --- bench export ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_bench_export_reports_size_and_metrics_of_every_form(place, trained, capsys):
    command = ["bench", "export", str(place[1]), "--row=student-00", "--row=student-02"]
    assert main([*command, "--split=test", "--json=forms.json"]) == 0
    result = json.loads(Path("forms.json").read_text())
    assert (result["graph"], result["users"], result["items"]) == ("planted", N_USERS, N_ITEMS)
    forms = [(row["row"], row["form"], row["values"]) for row in result["rows"]]
    assert forms == [
        *(
            (row, form, values)
            for row in ("student-00", "student-02")
            for form in ("graph", "final")
            for values in ("float32", "float16", "int8")
        ),
        *((f"dense, {width}", "final", "int8") for width in (32, 16, 8)),
    ]
    for row in result["rows"]:
        assert sum(row["parts"].values()) == row["bytes"]
        assert row["parts"]["names"] == 0
        assert row["of_dense"] == row["bytes"] / (256 * (N_USERS + N_ITEMS))
        if row["values"] == "float32":
            assert row["metrics"] == pytest.approx(trained.row(row["row"])["test"], abs=1e-6)
    # 16 columns are as many as the embeddings have, so that only int8 loses precision.
    assert result["rows"][-2]["metrics"] == pytest.approx(result["rows"][5]["metrics"], abs=0.02)
    assert "dense, 8" in capsys.readouterr().out


def test_bench_export_fails_if_a_file_has_other_metrics(place, trained, monkeypatch):
    from recbole_lightgnn.bench import export as bench
    from recbole_lightgnn.bench.measure import WrongResult

    monkeypatch.setattr(bench, "metrics_of", lambda *_: {"recall@20": 0.5})
    with pytest.raises(WrongResult, match="student-02, form graph"):
        bench.run(place[1], (), "valid")


# --- without torch --------------------------------------------------------------------------------

ALONE = """
import sys
from importlib.abc import MetaPathFinder

ALLOWED = {*sys.stdlib_module_names, "numpy", "recbole_lightgnn"}
before = set(sys.modules)  # modules that Python has loaded at its start

class OnlyAllowed(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in ALLOWED and not top.startswith("_"):
            raise ModuleNotFoundError(f"{name} is not allowed", name=name)

sys.meta_path.insert(0, OnlyAllowed())
from recbole_lightgnn.cli.main import main
from recbole_lightgnn.serving import Recommender

assert main(["recommend", sys.argv[1], "--user=17", "--k=3"]) == 0
assert main(["explain", sys.argv[1], "--user=17", "--item=3"]) == 0

model = Recommender.load(sys.argv[1])
print(*model.recommend(["17"], 3).items[0])
model.explain("17", "3"), model.fold_in(["3", "4"], 3), model.similar_items(["3"], 2)
print(*sorted(name for name in set(sys.modules) - before if name.partition(".")[0] not in ALLOWED
              and not name.startswith("_")))
"""


def test_serving_needs_only_numpy(trained, tmp_path):
    export(trained, tmp_path / "m.lgnn", values="int8", form="graph")
    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(tmp_path / "m.lgnn")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    *_, best, others = done.stdout.splitlines()
    assert (
        best.split() == Recommender.load(tmp_path / "m.lgnn").recommend(["17"], 3).items[0].tolist()
    )
    assert set(others.split()) <= {"cython_runtime"}, "Cython adds it, no import does"
