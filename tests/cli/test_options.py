"""Flags of several commands have the same form and the same help in all of them."""

import argparse
import re

import pytest

from recbole_lightgnn.cli.main import _parser
from recbole_lightgnn.cli.options import count, minutes, whole_number

STUDIES = ("run", "tune", "ablate", "compare")


def flags(command):
    """Form and help of each flag of a command; without defaults and forms of lines in the help."""
    found = {}
    for action in _parser()[1][command]._actions:
        if action.help != argparse.SUPPRESS:
            words = re.split(r" \(default| `", action.help)[0]
            found[tuple(action.option_strings)] = (action.metavar, action.type, words)
    return found


def test_a_flag_of_several_commands_has_one_form_and_one_help():
    by_flag = {}
    for command in STUDIES:
        for flag, form in flags(command).items():
            by_flag.setdefault(flag, {})[command] = form
    shared = {flag: forms for flag, forms in by_flag.items() if len(forms) > 1}
    assert {flag[0] for flag in shared} >= {"--model", "--dataset", "--seed", "--out", "--variants"}
    for flag, forms in shared.items():
        assert len(set(forms.values())) == 1, (flag, forms)


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [(count, "1", 1), (whole_number, "1e9", 10**9), (whole_number, "0", 0), (minutes, "1.5", 1.5)],
)
def test_numbers_are_read(read, text, value):
    assert read(text) == value


@pytest.mark.parametrize(
    ("read", "text"),
    [
        *((count, text) for text in ("0", "-1", "1.0", "x", "")),
        *((whole_number, text) for text in ("1.5", "inf", "nan", "x", "")),
        *((minutes, text) for text in ("0", "-1", "inf", "nan", "x")),
    ],
)
def test_other_numbers_are_refused(read, text):
    with pytest.raises(argparse.ArgumentTypeError, match=f"^expected a .*, got '{text}'$"):
        read(text)
