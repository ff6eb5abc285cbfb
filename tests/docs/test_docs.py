"""The code blocks of README, tutorials and how-to pages run as a reader would run them."""

import random
import re
import shutil

import pytest
from helpers.doc_blocks import blocks_of, command_environment, run_block
from helpers.paths import ROOT

PAGES = [
    ROOT / "README.md",
    *sorted(ROOT.glob("docs/tutorials/*.md")),
    *sorted(ROOT.glob("docs/how-to/*.md")),
]
OF_A_COPY = ROOT / "docs" / "tutorials" / "add-a-model.md"  # see test_add_a_model.py
NOT_RUN = 9  # blocks at most, on all pages together


def ratings() -> str:
    """A table as README's reader has one: 100 users, 60 items, two tastes."""
    draw = random.Random(7)
    lines = ["user,item,rating,time"]
    for user in range(100):
        for step, item in enumerate(draw.sample(range(30), 20)):
            rating = draw.choice([3, 4, 4, 5])
            lines.append(f"{user},{30 * (user % 2) + item},{rating},{1000 * step + user}")
    return "\n".join(lines) + "\n"


@pytest.fixture
def folder(tmp_path):
    """An otherwise empty folder with the planted dataset and a reader's table."""
    shutil.copytree(ROOT / "dataset" / "planted", tmp_path / "dataset" / "planted")
    (tmp_path / "ratings.csv").write_text(ratings(), encoding="utf-8")
    return tmp_path


@pytest.fixture
def environment(tmp_path_factory):
    """The commands `recbole-lightgnn` and `python` are those of this interpreter and checkout."""
    return command_environment(tmp_path_factory.mktemp("bin"), ROOT)


@pytest.mark.slow
@pytest.mark.parametrize("page", [p for p in PAGES if p != OF_A_COPY], ids=lambda page: page.stem)
def test_the_blocks_run(page, folder, environment):
    names = {"__name__": "__main__"}
    for block in blocks_of(page):
        if block.reason is None:
            run_block(block, folder, names, environment)


def test_few_blocks_are_not_run_and_each_says_why():
    left_out = [block for page in PAGES for block in blocks_of(page) if block.reason is not None]
    assert all(block.reason for block in left_out), "a block is not run for no reason"
    assert len(left_out) <= NOT_RUN, [f"{block.place}: {block.reason}" for block in left_out]


def test_every_page_has_blocks_that_run():
    for page in PAGES:
        assert any(block.reason is None for block in blocks_of(page)), page.name


def test_shown_output_is_checked(tmp_path, environment):
    page = tmp_path / "page.md"
    page.write_text("```console\n$ echo 12 items\n3 items\n```\n```console\n$ echo 1\nno\n```\n")
    first, second = blocks_of(page)
    run_block(first, tmp_path, {}, environment)
    with pytest.raises(AssertionError, match="no line 'no'"):
        run_block(second, tmp_path, {}, environment)


def test_a_failing_command_is_an_error(tmp_path, environment):
    page = tmp_path / "page.md"
    page.write_text("```console\n$ echo one \\\n  two\none two\n$ false | cat\n```\n")
    with pytest.raises(AssertionError, match="exit status 1"):
        run_block(blocks_of(page)[0], tmp_path, {}, environment)


def test_readme_is_short_and_its_links_lead_somewhere():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 200
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", text)
    assert len(targets) > 20
    assert [one for one in targets if not (ROOT / one).exists()] == []
