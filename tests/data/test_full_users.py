"""A user who interacted with every item is named, because no item is left to sample or rank."""

from pathlib import Path

import pytest

from recbole_lightgnn.cli.main import main
from recbole_lightgnn.data.pairs import import_pairs

pytestmark = pytest.mark.filterwarnings("ignore")


def write_pairs(pairs, *, split):
    """Write a dataset ``mine``, in one file of all interactions or in the importer's three."""
    lines = [f"u{user}\ti{item}" for user, item in pairs]
    if split:
        Path("mine.tsv").write_text("\n".join(["user\titem", *lines]), encoding="utf-8")
        import_pairs(Path("mine.tsv"), "mine", Path("dataset"), overwrite=False)
    else:
        Path("dataset/mine").mkdir(parents=True)
        text = "\n".join(["user_id:token\titem_id:token", *lines])
        Path("dataset/mine/mine.inter").write_text(text, encoding="utf-8")


FEW = [(user, (user + n) % 12) for user in range(20) for n in range(5)]
ALL = [(3, item) for item in range(12)]


@pytest.mark.parametrize("split", [False, True], ids=["one file", "three files"])
@pytest.mark.parametrize("model", ["LightGNN", "BPR", "EASE"])
def test_the_user_is_named_with_a_remedy(model, split, capsys):
    write_pairs(sorted({*FEW, *ALL}), split=split)
    assert main(["run", f"--model={model}", "--dataset=mine", "--show_progress=False"]) == 2
    (line,) = [one for one in capsys.readouterr().err.splitlines() if one.startswith("error:")]
    assert "user 'u3' of 'mine' interacted with all 12 items" in line
    assert line.endswith("remove these users from the table, or add items")


def test_without_the_user_the_same_table_trains(capsys):
    write_pairs([pair for pair in FEW if pair[0] != 3], split=True)
    command = ["run", "--model=BPR", "--dataset=mine", "--show_progress=False", "--epochs=1"]
    assert main([*command, "--topk=[5]", "--valid_metric=Recall@5"]) == 0


def test_several_users_are_counted(capsys):
    write_pairs([(user, item) for user in range(6) for item in range(4)], split=False)
    assert main(["run", "--model=BPR", "--dataset=mine", "--show_progress=False"]) == 2
    error = capsys.readouterr().err
    assert "user 'u0' and 5 other users of 'mine' interacted with all 4 items" in error
