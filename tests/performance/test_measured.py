"""The tables of the README on speed are those of the committed measurements."""

import json
from pathlib import Path

import pytest
import targets
from harness.report import contests_of, table

HERE = Path(__file__).parent
README = HERE / "README.md"


@pytest.mark.parametrize("name", ["measured-epyc.json", "measured-h200.json"])
def test_the_table_shows_what_was_measured(name):
    measured = json.loads((HERE / name).read_text(encoding="utf-8"))
    assert table(contests_of(measured)) in README.read_text(encoding="utf-8")


def test_what_was_asked_is_shown_with_what_was_found():
    measured = json.loads((HERE / "measured-epyc.json").read_text(encoding="utf-8"))
    assert targets.table(contests_of(measured)) in README.read_text(encoding="utf-8")
