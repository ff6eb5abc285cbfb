"""The paper's numbers, and the rows of a comparison that they stand beside."""

import pytest
from helpers.compared import MODELS, change, write_compared
from helpers.reading import markdown_of, table_of

from recbole_lightgnn.comparison.paper_numbers import (
    METRICS,
    PAPER_NAMES,
    PAPER_TEACHERS,
    SPLITS,
    Point,
    split_of,
)
from recbole_lightgnn.comparison.report import report, report_tables
from recbole_lightgnn.registry import model_names

YELP = {"train": {"sha256": SPLITS["yelp"].train_sha256, "pairs": 3600, "users": 400}}
AMAZON = {"users": 76469, "items": 83761, "train": {"sha256": "0" * 64, "pairs": 966680}}
BASELINES = ["BiasMF", "NCF", "AutoR", "PinSage", "STGCN", "GCMC", "NGCF", "GCCF", "LightGCN"]
BASELINES += ["DGCF", "SLRec", "NCL", "SGL", "HCCF", "SimGCL", "GLT", "UnKD", "SimRec"]


def notes_of(folder):
    lines = (folder / "table.md").read_text().splitlines()
    return [line.removeprefix("- ") for line in lines if line.startswith("- ")]


# --- the numbers --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["yelp", "gowalla", "amazon"])
def test_every_column_of_table_2_is_there_with_all_metrics(name):
    points = SPLITS[name].points
    whole = [point for point in points if tuple(point.test) == METRICS]
    assert [point.model for point in whole[:19]] == ["LightGNN", *BASELINES]
    assert all(point.test["recall@20"] < point.test["recall@40"] for point in whole)


@pytest.mark.parametrize(
    ("name", "model", "scores"),
    [
        ("yelp", "AutoR", (0.0491, 0.0222, 0.0692, 0.0268)),
        ("gowalla", "UnKD", (0.2331, 0.1496, 0.3301, 0.1766)),
        ("amazon", "GCMC", (0.0837, 0.0579, 0.1196, 0.0692)),
        ("gowalla", "GraphDA", (0.2374, 0.1518, 0.3334, 0.1748)),
        ("tmall", "XSimGCL", (0.06463, 0.04520, 0.10347, 0.05867)),
    ],
)
def test_some_numbers_by_hand(name, model, scores):
    (point,) = (point for point in SPLITS[name].points if point.model == model)
    assert tuple(point.test[metric] for metric in METRICS) == scores


def test_every_model_of_the_paper_has_one_of_ours():
    ours = {theirs: name for name, theirs in PAPER_NAMES.items()}
    names = {ours.get(p.model, p.model) for split in SPLITS.values() for p in split.points}
    assert names <= set(model_names())
    assert {*PAPER_NAMES, *PAPER_TEACHERS} <= names
    assert ours["STGCN"] == "STARGCN"


# --- which number stands where ------------------------------------------------------------------


def row(entries=1.0, interactions=1.0, stage="student"):
    return {"stage": stage, "entries_kept": entries, "interactions_kept": interactions}


@pytest.mark.parametrize(
    ("model", "shown", "recall"),
    [
        ("LightGNN", row(0.3277, 0.4437), 0.2610),
        ("LightGNN", row(0.0859, 0.1673), 0.1966),  # the paper cuts .0859 to .08
        ("LightGNN", row(0.3277, 0.7738), None),
        ("LightGNN", row(), None),
        ("LightGNN", row(stage="teacher"), None),
        ("LightGCN", row(stage="LightGCN"), 0.2230),
        ("UnKD", row(stage="teacher"), None),
        ("UnKD", row(stage="UnKD"), 0.2331),
        ("LRGCCF", row(stage="LRGCCF"), 0.2012),
        ("GLT", row(0.33, 0.59), 0.2324),
        ("GLT", row(), None),
        ("BPR", row(stage="BPR"), None),
    ],
)
def test_the_number_beside_a_row(model, shown, recall):
    point = SPLITS["gowalla"].point_of_row(model, shown)
    assert (point and point.test["recall@20"]) == recall


def test_a_split_is_known_by_its_hash_or_its_counts():
    assert split_of(YELP) is SPLITS["yelp"]
    assert split_of(AMAZON) is SPLITS["amazon"]
    counts = {"users": 42712, "items": 26822, "train": {"pairs": 182357, "sha256": "0" * 64}}
    assert split_of(counts) is None, "the hash of Yelp is known, and differs"
    assert split_of(AMAZON | {"items": 83760}) is None


@pytest.mark.parametrize(
    ("recall", "ndcg", "verdict"),
    [
        (0.5, 0.5, "above"),
        (0.22996, 0.13996, "above"),  # .2300 and .1400, as the paper prints
        (0.22994, 0.13994, "below"),
        (0.3, 0.1, "R above, N below"),
        (0.2, 0.2, "R below, N above"),
    ],
)
def test_verdicts(recall, ndcg, verdict):
    point = Point("X", 1.0, 1.0, {"recall@20": 0.23, "ndcg@20": 0.14})
    assert point.verdict({"recall@20": recall, "ndcg@20": ndcg}) == verdict
    alone = Point("X", 1.0, 1.0, {"recall@20": 0.23})
    word = "above" if recall > 0.2299 + 5e-5 else "below"
    assert alone.verdict({"recall@20": recall, "ndcg@20": ndcg}) == f"R {word}"


def test_more_digits_are_compared_where_the_paper_has_them():
    point = Point("X", 1.0, 1.0, {"recall@20": 0.06463, "ndcg@20": 0.0452}, digits=5)
    assert point.verdict({"recall@20": 0.06462, "ndcg@20": 0.0452}) == "R below, N above"


# --- the tables ---------------------------------------------------------------------------------


def test_tables_have_the_papers_numbers(tmp_path):
    variants = {"BiasMF-8": {"model": "LightGCN", "embedding_size": 8}}
    models = ("LightGNN", "LightGCN", "NeuMF", "BPR")
    folder = write_compared(tmp_path / "out", models, data=YELP, variants=variants)
    report(folder)
    shown, exact = markdown_of(folder), table_of(folder)
    cells = {label: [line[f"paper {n}"] for n in ("R@20", "N@20")] for label, line in shown.items()}
    assert cells == {
        "LightGNN's teacher": ["", ""],
        "LightGNN .33 / .77": [".0879", ".0443"],
        "LightGNN .09 / .57": [".0842", ""],
        "LightGCN": [".0761", ".0373"],
        "NeuMF": [".0304", ".0143"],
        "BPR": ["", ""],
    }
    for label, line in exact.items():
        found = [line[f"paper_{metric}"] for metric in METRICS[:2]]
        assert found == [text and f"{float(text):g}" for text in cells[label]]
        above = [
            f"{float(line[f'{m}_mean']):.4f}" >= f"{float(number):.4f}"
            for m, number in zip(METRICS[:2], found, strict=True)
            if number
        ]
        words = ["above" if one else "below" for one in above]
        verdict = ", ".join(f"{short} {word}" for short, word in zip("RN", words, strict=False))
        assert line["vs_paper"] == shown[label]["vs. paper"]
        assert line["vs_paper"] == (
            words[0] if words in (["above"] * 2, ["below"] * 2) else verdict
        )
    assert exact["LightGCN"]["paper_recall@40"] == "0.1175"
    assert "Other names in the paper: NCF for NeuMF." in notes_of(folder)


def test_a_variant_has_no_number_whatever_its_name(tmp_path):
    folder = write_compared(tmp_path, ("LightGCN", "BPR"), seeds=(1,), data=YELP)
    change(folder / "comparison.json", variants={"LightGCN": {"model": "LightGCN"}})
    report_tables(folder)
    assert "paper R@20" not in markdown_of(folder)["LightGCN"]


@pytest.mark.parametrize(
    ("models", "data", "protocol"),
    [
        (("LightGNN", "LightGCN"), {}, {}),  # not the paper's data
        (("BPR", "Pop"), YELP, {}),  # none of the paper's models
        (("LightGNN", "LightGCN"), YELP, {"topk": [40], "valid_metric": "Recall@40"}),
    ],
)
def test_without_numbers_there_are_no_columns(tmp_path, models, data, protocol):
    folder = write_compared(tmp_path, models, seeds=(1,), data=data)
    usual = {"valid_metric": "Recall@20", "valid_metric_bigger": True, "topk": [20, 40]}
    change(folder / "comparison.json", protocol=usual | protocol)
    report_tables(folder)
    assert "paper" not in (folder / "table.md").read_text()
    assert "paper" not in (folder / "table.csv").read_text()


def test_oddities_and_other_teachers_are_noted(tmp_path, monkeypatch):
    monkeypatch.setitem(MODELS, "UnKD", [("UnKD", 0.08, 4e6, 1e7, 60)])
    folder = write_compared(tmp_path, ("SGL", "UnKD"), seeds=(1, 2), data=AMAZON)
    for seed in (1, 2):
        change(folder / f"runs/UnKD-{seed}/record.json", settings={"teacher": "LightGNNTeacher"})
    report_tables(folder)
    assert markdown_of(folder)["SGL"]["paper N@20"] == ".5690"
    notes = notes_of(folder)
    assert "SGL: the paper prints an N@20 of .5690; .0569 is probably meant." in notes
    assert "UnKD: the paper's teacher is LightGCN with 8 layers; here LightGNNTeacher." in notes
    change(folder / "runs/UnKD-1/record.json", settings={"teacher": "LightGCN"})
    change(folder / "runs/UnKD-2/record.json", settings={"teacher": "LightGCN"})
    report_tables(folder)
    assert not any("the paper's teacher" in note for note in notes_of(folder))


def test_a_split_that_is_not_published_is_noted(tmp_path):
    data = {"users": 6040, "items": 3706, "train": {"sha256": "0" * 64, "pairs": 920193}}
    folder = write_compared(tmp_path, ("LightGNN", "XSimGCL"), seeds=(1,), data=data)
    report_tables(folder)
    assert markdown_of(folder)["LightGNN .33 / .77"]["paper R@20"] == ".2413"
    notes = "\n".join(notes_of(folder))
    assert "The paper's split is not published: only the counts are known to be the same." in notes
    assert "LightGNN: the paper does not say which shares it keeps." in notes
