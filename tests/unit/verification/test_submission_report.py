"""The report of a submission: which entries it shows, and what it calls unusually high."""

import pytest
from fixtures.leaderboards import LEVELS, fake_content, fake_expected, fake_spec, write_cell

from lmrl_bench.leaderboards.collect import collect
from lmrl_bench.leaderboards.spec import cells
from lmrl_bench.verification.report import Reviewed, report, unusually_high

SPEC = fake_spec(tasks=[{"task": "docs-en-de"}])


@pytest.fixture
def table(tmp_path):
    """Makes the leaderboard; `values` gives entries other levels of the primary metric."""

    def make(lower=(), **values):
        for cell in cells(SPEC):
            content = fake_content(cell)
            for found in content["results"].values():
                if cell.entry in values:
                    level = values[cell.entry] + 0.01 * cell.seed
                    found["metrics"]["sentiment"]["value"] = level
            content["task"]["lower_is_better"] = ["perplexity", *lower]
            write_cell(tmp_path, "fake", cell, content)
        return collect(SPEC, tmp_path, fake_expected)

    return make


def marked(leaderboard, label, best):
    entries = {entry.entry: entry for entry in leaderboard.tasks[0].entries}
    return unusually_high(entries[label], leaderboard.tasks[0], entries[best], entries["sft"])


def test_unusually_high(table):
    """SFT about 0.48, ppo 0.71: a gain of 0.23; 1.5 times that ends near 0.83."""
    assert not marked(table(a2c=0.78), "a2c", "ppo")  # better, but usual
    assert marked(table(a2c=0.95), "a2c", "ppo")
    assert not marked(table(a2c=0.3), "a2c", "ppo")


def test_unusually_high_needs_a_difference_that_seeds_do_not_explain(table, monkeypatch):
    monkeypatch.setitem(LEVELS, "ppo", 0.49)
    leaderboard = table(a2c=0.505)  # twice the gain, which is nothing
    assert not marked(leaderboard, "a2c", "ppo")


def test_where_less_is_better(table):
    values = {"sft": 0.9, "ppo": 0.8, "a2c": 0.3}
    leaderboard = table(lower=["sentiment"], **values)
    assert marked(leaderboard, "a2c", "ppo")
    assert not marked(table(lower=["sentiment"], **values | {"a2c": 0.95}), "a2c", "ppo")


def test_the_report(table):
    leaderboard = table(a2c=0.95)
    text = report(Reviewed("fake", 15, [], ["a note"], leaderboard, {"a2c"}))
    entries = [line.split(" | ")[:2] for line in text.splitlines() if line.startswith("| ")][2:]
    assert entries == [["| a2c", "new"], ["| ppo", "best so far"], ["| zero-shot", "reference"],
                    ["| sft", "reference"]]  # fmt: skip
    assert "`a2c` minus `ppo`: 0." in text
    assert "separated. **Unusually high.**" in text
    assert "```text\na note\n```" in text
    text = report(Reviewed("fake", 15, ["x `y`\n# z"], [], None, set()))
    assert "**Refused**, number of problems: 1 (15 records, new entries: none)" in text
    assert "```text\nx 'y' # z\n```" in text
