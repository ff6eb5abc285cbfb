"""From a run to a file and its answers: on the planted world, end to end."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from planted import N_ITEMS, N_USERS, QUICK, write_planted

from recbole_lightgnn.cli import main
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.export import export, metrics_of, served_model
from recbole_lightgnn.quick_start import run
from recbole_lightgnn.serving.model import read
from recbole_lightgnn.serving.recommender import Recommender
from recbole_lightgnn.trained import TrainedRun

ROOT = Path(__file__).resolve().parents[1]
SECRET = b"a secret of some length"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the planted dataset and a run of LightGNN; and what is planted."""
    folder = tmp_path_factory.mktemp("exports")
    planted = write_planted(folder / "dataset")
    before = Path.cwd()
    os.chdir(folder)
    try:
        record = run("LightGNN", "planted", settings=QUICK)
    finally:
        os.chdir(before)
    return folder, Path(record["result_file"]).parent, planted


@pytest.fixture
def trained(place, monkeypatch):
    monkeypatch.chdir(place[0])
    return TrainedRun(place[1])


def fresh(trained):
    return TrainedRun(trained.folder.path)


# --- the same model -----------------------------------------------------------------------------


@pytest.mark.parametrize("row", ["student-02", "student-00", "intermediate", "teacher"])
@pytest.mark.parametrize("form", [None, "final"])
@pytest.mark.parametrize("split", ["valid", "test"])
def test_metrics_from_the_file_are_those_of_the_run(trained, tmp_path, row, form, split):
    result = export(trained, tmp_path / "m.lgnn", row=row, form=form)
    ours = Recommender.load(tmp_path / "m.lgnn")
    expected = trained.row(row)[split]
    assert expected["recall@20"] > 0.5
    assert metrics_of(ours, trained, row, split) == pytest.approx(expected, abs=1e-6)
    assert result["run_valid"] == trained.row(row)["valid"]
    assert result["valid"] == pytest.approx(result["run_valid"], abs=1e-6)


@pytest.mark.parametrize(
    ("values", "form", "error"),
    [
        *(("float16", form, 2e-3) for form in ("graph", "final")),
        *(("int8", form, 3e-2) for form in ("graph", "final")),
    ],
)
def test_fewer_bits_lose_little(trained, tmp_path, values, form, error):
    exact = Recommender(served_model(trained, "student-02", form="graph"))
    export(trained, tmp_path / "m.lgnn", values=values, form=form)
    ours = Recommender.load(tmp_path / "m.lgnn")
    for got, truth in ((ours.user, exact.user), (ours.item, exact.item)):
        assert abs(got - truth).max() < error * abs(truth).max()
        assert abs(got - truth).max() > 0
    lost = metrics_of(ours, trained, "student-02")
    assert lost["recall@20"] == pytest.approx(trained.row()["valid"]["recall@20"], rel=0.01)


def test_the_model_is_its_tables_by_name(trained):
    """In whatever order the file has users and items, a user's row is the user's."""
    model = trained.model("student-01")
    ours = Recommender(served_model(trained, "student-01", form="graph"))
    user, item = (table.numpy() for table in model.final_embeddings())
    data = trained.dataset
    for number, token in list(enumerate(data.field2id_token["user_id"]))[1::13]:
        np.testing.assert_allclose(
            ours.user[ours.users.number(token)], user[number], rtol=1e-5, atol=1e-6
        )
    for number, token in list(enumerate(data.field2id_token["item_id"]))[1::13]:
        np.testing.assert_allclose(
            ours.item[ours.items.number(token)], item[number], rtol=1e-5, atol=1e-6
        )


def test_the_same_run_gives_the_same_bytes(trained, tmp_path):
    for name, options in (
        ("a", {"values": "int8"}),
        ("b", {"ids": "hashed", "secret": SECRET}),
        ("c", {"form": "final", "values": "float16", "seen": "all"}),
    ):
        files = [tmp_path / f"{name}{again}" for again in range(2)]
        for file in files:
            export(fresh(trained), file, **options)
        assert files[0].read_bytes() == files[1].read_bytes()


def test_the_smaller_form_is_taken(trained, tmp_path):
    sizes = {
        form: export(trained, tmp_path / "m.lgnn", form=form, values="int8")["bytes"]
        for form in ("graph", "final")
    }
    result = export(trained, tmp_path / "m.lgnn", values="int8")
    assert result["form"] == min(sizes, key=sizes.get)
    assert result["bytes"] == (tmp_path / "m.lgnn").stat().st_size == min(sizes.values())
    assert result["of_dense"] == result["bytes"] / (4 * 64 * (N_USERS + N_ITEMS))
    assert export(trained, tmp_path / "m.lgnn", row="teacher")["form"] == "final"


def test_the_card_says_what_it_is(trained, tmp_path):
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


# --- what is not in the file ----------------------------------------------------------------------


def pairs_in(file):
    """Every user-item pair that anything in a file lists."""
    model = read(file)
    lists = [model.seen, *([model.graph.pairs] if model.graph else [])]
    return {
        (int(user), int(item))
        for pairs in lists
        for user, item in zip(
            model.users.names(pairs.user), model.items.names(pairs.item), strict=True
        )
    }


def kept_pairs(trained, row):
    model = trained.model(row)
    users, items = (trained.dataset.field2id_token[f] for f in ("user_id", "item_id"))
    pattern = model.graph.interactions.pattern
    kept = zip(users[pattern.row.numpy()], items[pattern.col.numpy()], strict=True)
    return {(int(user), int(item)) for user, item in kept}


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
    """Of a pruned interaction nothing is left but that its user and its item had one more."""
    export(trained, tmp_path / "a.lgnn", form="graph")
    export(trained, tmp_path / "c.lgnn", form="graph", seen="all")
    model = trained.model("student-02")
    pattern, gone = model.observed.interactions.pattern, (~model.edge_mask).nonzero().squeeze(1)
    user, item = pattern.row, pattern.col
    pairs = set(zip(user.tolist(), item.tolist(), strict=True))
    a, b = next(
        (a, b)
        for a in gone.tolist()
        for b in gone.tolist()
        if {(int(user[a]), int(item[b])), (int(user[b]), int(item[a]))}.isdisjoint(pairs)
    )
    item[[a, b]] = item[[b, a]]  # two users had each other's item; all degrees are as before
    monkeypatch.setattr(type(pattern), "col", property(lambda _: item))
    export(trained, tmp_path / "b.lgnn", form="graph")
    assert (tmp_path / "a.lgnn").read_bytes() == (tmp_path / "b.lgnn").read_bytes()
    export(trained, tmp_path / "d.lgnn", form="graph", seen="all")
    assert (tmp_path / "c.lgnn").read_bytes() != (tmp_path / "d.lgnn").read_bytes()


@pytest.mark.parametrize(("ids", "there"), [("tokens", True), ("hashed", False), ("none", False)])
def test_tokens_are_in_the_file_only_if_asked_for(tmp_path, monkeypatch, ids, there):
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
    stored = b"".join(
        array.tobytes() for array in _arrays(content).values()
    )  # the file's own bytes may be deflated
    for token in (b"user-007", b"item-13"):
        assert (token in stored) == there
        assert (token in content + stored) == there
    # Nor can it be told from the card what was pruned, but by who has the key.
    data = trained.folder.content["data"]
    assert (Recommender.load("m.lgnn").card["data"] == data) == (ids != "hashed")
    assert (data["train"].encode() in content) == (ids != "hashed")
    ours = Recommender.load("m.lgnn", secret)
    named = {"tokens": "user-007", "hashed": "user-007", "none": 7}[ids]
    best = ours.recommend([named], 3).items[0]
    if ids == "tokens":
        assert all(item.startswith("item-") for item in best)
    elif ids == "none":  # the order of the tokens
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


# --- the command line -----------------------------------------------------------------------------


def test_export_recommend_and_explain(place, trained, tmp_path, capsys):
    folder, file = str(place[1]), str(tmp_path / "m.lgnn")
    assert main(["export", folder, "--out", file, "--form=graph", "--row=student-01"]) == 0
    printed = capsys.readouterr().out
    size = Path(file).stat().st_size
    assert f"student-01, form graph, float32: {size:,} bytes" in printed
    assert f"{size / 4 / 64 / (N_USERS + N_ITEMS):.2%} of embeddings of 64" in printed
    assert f"validation recall@20: {trained.row('student-01')['valid']['recall@20']:.6f}" in printed
    ours = Recommender.load(file)
    expected = ours.recommend(["17", "3"], 4)

    assert main(["recommend", file, "--user=17", "--user", "3", "--k=4"]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [line[2] for line in lines] == expected.items.ravel().tolist()
    assert [line[:2] for line in lines[:2]] == [["17", "1"], ["17", "2"]]

    assert main(["explain", file, "--user=17", "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)["scores"]
    assert [one["item"] for one in scores] == ours.recommend(["17"], 5).items[0].tolist()
    for one in scores:
        total = one["own"] + sum(part["contribution"] for part in one["carried"])
        assert total == pytest.approx(one["score"], abs=1e-5)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_all_users_into_a_table(trained, tmp_path, capsys, suffix, monkeypatch):
    monkeypatch.setattr("recbole_lightgnn.serving.command._USERS", 7)
    export(trained, tmp_path / "m.lgnn")
    table = tmp_path / "folder" / f"recs.{suffix}"
    command = ["recommend", str(tmp_path / "m.lgnn"), "--all-users", "--k=60", "--out", str(table)]
    assert main(command) == 0
    assert f"recommendations: {table}" in capsys.readouterr().out
    if suffix == "csv":
        with table.open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    else:
        from pyarrow import parquet

        rows = parquet.read_table(table).to_pylist()
    ours = Recommender.load(tmp_path / "m.lgnn")
    users = ours.users.names(np.arange(N_USERS))
    ranked = ours.recommend(users, 60)
    expected = [
        (user, rank, item, float(score))
        for user, items, scores in zip(users, ranked.items, ranked.scores, strict=True)
        for rank, (item, score) in enumerate(zip(items, scores, strict=True), 1)
        if item is not None
    ]
    assert len(expected) == N_USERS * N_ITEMS - trained.row()["interactions"]
    got = [(r["user"], int(r["rank"]), r["item"], float(r["score"])) for r in rows]
    assert [row[:3] for row in got] == [row[:3] for row in expected]
    np.testing.assert_allclose([row[3] for row in got], [row[3] for row in expected], rtol=1e-5)
    assert main([*command, "--include-seen"]) == 0
    if suffix == "csv":
        assert len(table.read_text().splitlines()) == 1 + N_USERS * N_ITEMS


def test_explain_from_the_run_has_what_was_pruned_and_when(place, trained, capsys):
    folder, planted = str(place[1]), place[2]["train"]
    assert main(["explain", folder, "--user=5", "--json", "--k=3"]) == 0
    explained = json.loads(capsys.readouterr().out)
    past = {one["item"]: one for one in explained["interactions"]}
    assert {(5, int(item)) for item in past} == {pair for pair in planted if pair[0] == 5}
    users, items = (trained.dataset.field2id_token[f].tolist() for f in ("user_id", "item_id"))
    models = {run: trained.model(f"student-{run:02d}") for run in range(3)}
    for item, one in past.items():
        last = max(
            run for run in models if (5, int(item)) in kept_pairs(trained, f"student-{run:02d}")
        )
        assert one["pruned_in"] == (None if last == 2 else last + 1)
        pattern = models[last].graph.interactions.pattern
        place_of = (pattern.row == users.index("5")) & (pattern.col == items.index(item))
        assert one["weight"] == models[last].edge_weight[place_of].item()
    fates = [one["pruned_in"] for one in explained["interactions"]]
    assert fates == sorted(fates, key=lambda run: -9 if run is None else -run)
    for one in explained["scores"]:
        assert (5, int(one["item"])) not in planted, "all that was seen is left out"
        kept = {part["item"] for part in one["carried"]}
        assert kept == {item for item, what in past.items() if what["pruned_in"] is None}
    assert main(["explain", folder, "--user=5", "--item=7", "--row=student-01"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("interaction\tweight")
    assert any(line.startswith("7\t") for line in lines[-1:])


def bad(capsys, *arguments):
    assert main(list(map(str, arguments))) == 2
    (line,) = capsys.readouterr().err.splitlines()[-1:]
    assert line.startswith("error: ")
    return line


def test_bad_input_ends_in_one_line(place, trained, tmp_path, capsys):
    run_dir, file = place[1], tmp_path / "m.lgnn"
    out = ("--out", file)
    assert "is no run folder" in bad(capsys, "export", tmp_path, *out)
    assert "--row must be one of" in bad(capsys, "export", run_dir, *out, "--row=student-1")
    assert "student-01" in bad(capsys, "export", run_dir, *out, "--row=student-1")
    assert "is a folder" in bad(capsys, "export", run_dir, "--out", tmp_path)
    hashed = ("--ids=hashed", *out)
    assert "--ids hashed needs a --key" in bad(capsys, "export", run_dir, *hashed)
    assert "cannot be read" in bad(capsys, "export", run_dir, *hashed, "--key=none.key")
    (tmp_path / "key").write_bytes(SECRET)
    assert "needs a --key, and nothing else does" in bad(
        capsys, "export", run_dir, *out, "--key", tmp_path / "key"
    )
    (tmp_path / "short").write_bytes(b"short")
    assert "can be guessed" in bad(capsys, "export", run_dir, *hashed, "--key", tmp_path / "short")
    for flags, what in (
        (("--row=teacher", "--form=graph"), "a LightGNNTeacher has no form graph"),
        (("--seen=none", "--form=graph"), "--seen none has no form graph"),
    ):
        assert what in bad(capsys, "export", run_dir, *out, *flags)
    assert not file.exists()
    assert "no file at" in bad(capsys, "recommend", file, "--user=1")
    export(trained, file)
    assert "no user '90': they are numbers from 0 to 89" in bad(
        capsys, "recommend", file, "--user=90"
    )
    assert "k must be" in bad(capsys, "recommend", file, "--user=9", "--k=61")
    assert "--all-users needs --out" in bad(capsys, "recommend", file, "--all-users")
    assert "ends in .csv or .parquet" in bad(
        capsys, "recommend", file, "--all-users", "--out=recs.txt"
    )
    assert "no item 'x'" in bad(capsys, "explain", file, "--user=1", "--item=x")
    assert "no user 'x'" in bad(capsys, "explain", run_dir, "--user=x")
    assert "--row is of a run's folder" in bad(capsys, "explain", file, "--user=1", "--row=x")
    assert "a LightGNNTeacher has no form graph" in bad(
        capsys, "explain", run_dir, "--user=1", "--row=teacher"
    )
    content = file.read_bytes()
    file.write_bytes(content[:-5])
    assert "is cut off" in bad(capsys, "recommend", file, "--user=1")
    file.write_bytes(content[:-5] + b"12345")
    assert "is damaged" in bad(capsys, "recommend", file, "--user=1")


def test_a_failed_export_leaves_the_old_file(trained, tmp_path, monkeypatch):
    file = tmp_path / "m.lgnn"
    export(trained, file)
    before = file.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        export(trained, file, values="int8")
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["m.lgnn"]


def test_a_run_without_the_model_of_a_row(place, trained, tmp_path):
    again = run("LightGNN", "planted", settings={
        **QUICK, "n_pruning_runs": 0, "epochs": 1, "checkpoint_dir": str(tmp_path / "other"),
        "intermediate_checkpoint": str(place[1] / "intermediate.safetensors"),
    })  # fmt: skip
    with pytest.raises(InputError, match=r"has no intermediate\.safetensors: the model of row"):
        TrainedRun(Path(again["result_file"]).parent).model("intermediate")


# --- the benchmark of forms -----------------------------------------------------------------------


def test_every_form_is_weighed_and_ranked(place, trained, capsys):
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
    # 16 columns: as many dimensions as there are lose nothing but what int8 does.
    assert result["rows"][-2]["metrics"] == pytest.approx(result["rows"][5]["metrics"], abs=0.02)
    assert "dense, 8" in capsys.readouterr().out


def test_a_file_that_ranks_otherwise_is_wrong(place, trained, monkeypatch):
    from recbole_lightgnn.bench import export as bench
    from recbole_lightgnn.bench.measure import WrongResult

    monkeypatch.setattr(bench, "metrics_of", lambda *_: {"recall@20": 0.5})
    with pytest.raises(WrongResult, match="student-02, form graph"):
        bench.run(place[1], (), "valid")


# --- elsewhere ------------------------------------------------------------------------------------

ALONE = """
import sys
from importlib.abc import MetaPathFinder

ALLOWED = {*sys.stdlib_module_names, "numpy", "recbole_lightgnn"}
before = set(sys.modules)  # what the system's own Python begins with

class Nothing(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in ALLOWED and not top.startswith("_"):
            raise ModuleNotFoundError(f"{name} is not here", name=name)

sys.meta_path.insert(0, Nothing())
from recbole_lightgnn.cli import main
from recbole_lightgnn.serving import Recommender

assert main(["recommend", sys.argv[1], "--user=17", "--k=3"]) == 0
assert main(["explain", sys.argv[1], "--user=17", "--item=3"]) == 0

ours = Recommender.load(sys.argv[1])
print(*ours.recommend(["17"], 3).items[0])
ours.explain("17", "3"), ours.fold_in(["3", "4"], 3), ours.similar_items(["3"], 2)
print(*sorted(name for name in set(sys.modules) - before if name.partition(".")[0] not in ALLOWED
              and not name.startswith("_")))
"""


def test_serving_runs_where_there_is_only_numpy(trained, tmp_path):
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
    assert set(others.split()) <= {"cython_runtime"}, "which no one imports"
