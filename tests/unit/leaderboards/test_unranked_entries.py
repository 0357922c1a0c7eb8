"""Controls on a leaderboard: shown with their numbers and their kind, never ranked, never marked best."""

from dataclasses import replace
from unittest.mock import patch

import pytest
from fixtures.leaderboards import LEVELS, fake_content, fake_expected, fake_spec, write_cell

from lmrl_bench.leaderboards.build import render
from lmrl_bench.leaderboards.collect import collect
from lmrl_bench.leaderboards.overview import with_statistics
from lmrl_bench.leaderboards.render.headline import lead
from lmrl_bench.leaderboards.render.overview import overview_text, standings
from lmrl_bench.leaderboards.spec import cells

SPEC = fake_spec(
    entries=[
        {"entry": "zero-shot", "algorithm": "no-training", "config": {"policy": {"init": "base"}}},
        {"entry": "sft", "algorithm": "no-training"},
        {"entry": "ppo", "algorithm": "ppo"},
        {"entry": "a2c", "algorithm": "a2c"},
        {"entry": "best-of-8", "algorithm": "best-of-n"},
        {"entry": "constant", "algorithm": "trivial"},
        {"entry": "sft-top-p", "algorithm": "top-p"},
        {"entry": "sft-t0.5", "algorithm": "no-training", "config": {"evaluation": {"temperature": 0.5}}},
    ]
)  # fmt: skip
CONTROLS = {
    "best-of-8": "reward", "constant": "text", "sft-top-p": "policy", "sft-t0.5": "decoding",
}  # fmt: skip
HIGH = {"best-of-8": 0.95, "constant": 0.9, "sft-top-p": 0.6, "sft-t0.5": 0.8}


def expected(cell):
    """Only the first task's reward reads its references."""
    oracle = (cell.task, cell.entry) == (SPEC.tasks[0].task, "best-of-8")
    return replace(fake_expected(cell), oracle=oracle)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    root = tmp_path_factory.mktemp("controls")
    with patch.dict(LEVELS, HIGH):
        for cell in cells(SPEC):
            content = fake_content(cell)
            if cell.entry == "constant":  # the same for every seed, and no policy wrote it
                content["results"] = fake_content(cells(SPEC)[15])["results"]
                for results in content["results"].values():
                    results["kl_to_reference"] = None
            if cell.entry == "sft-top-p":
                content["results"]["test-unfiltered"] = content["results"]["test"]
            write_cell(root, SPEC.name, cell, content)
    return with_statistics(collect(SPEC, root, expected))


@pytest.fixture(scope="module")
def files(table):
    return {name: content.decode() for name, content in render(table).items()}


def test_a_control_is_neither_ranked_nor_marked_whatever_it_scores(table):
    for task in table.tasks:
        assert {e.entry: e.control for e in task.entries if e.control} == CONTROLS
        best = {e.entry for e in task.entries if e.best}
        assert "ppo" in best
        assert not best & set(CONTROLS)
    ranked = {e.entry for e in table.overview.entries if e.ranked}
    assert ranked == {"zero-shot", "sft", "ppo", "a2c"}
    assert {name for group in table.overview.groups for name in group} == ranked
    assert not {t.first for t in table.overview.tests} & set(CONTROLS)
    scores = {e.name: e.iqm.value for e in table.overview.entries}
    assert scores["best-of-8"] > scores["ppo"]


def test_an_oracle_is_called_one_where_the_reward_reads_the_references(table, files):
    assert [[e.entry for e in task.entries if e.oracle] for task in table.tasks] == [
        ["best-of-8"], [],
    ]  # fmt: skip
    text, first, second = files["README.md"], table.tasks[0].task, table.tasks[1].task
    of_first = text[text.index(f"## {first}") : text.index(f"## {second}")]
    of_second = text[text.index(f"## {second}") :]
    assert "| best-of-8 (oracle) |" in of_first
    assert "| best-of-8 (control) |" in of_second
    assert f"On {first} the reward reads the reference texts" in text
    texts = [overview_text(table.overview), str(standings(table))]
    for text in (files["index.html"], files["table.tex"], *texts):
        assert "best-of-8 (oracle)" in text
        assert "constant (control)" in text


def test_every_page_says_what_the_controls_are(files):
    for name in ("constant", "sft-top-p", "sft-t0.5"):
        assert f"| {name} (control) |" in files["README.md"]
        assert f"{name} (control)</th>" in files["index.html"]
    note = "Controls, which have no rank and are never marked best. best-of-8: the reward picks one"
    assert note in files["README.md"]
    assert note in files["index.html"]
    assert "sft-t0.5 at temperature 0.5" in files["README.md"]
    assert "| sft-top-p, filtered † |" in files["README.md"]
    whole = files["README.md"].split("## All tasks together")[1].split("## ")[0]
    assert "| best-of-8 (oracle) |" in whole
    assert "| constant (control) |" in whole


def test_the_headline_names_the_controls_that_no_entry_beats(table):
    (line,) = [line for line in lead(table) if line.startswith("Controls")]
    assert line.startswith("Controls, which have no rank, score higher: best-of-8 ")
    assert "(oracle), constant " in line  # the best first
    assert "sft-top-p" not in line


def test_answers_without_a_policy_have_no_kl(table, files):
    for task in table.tasks:
        (constant,) = [e for e in task.entries if e.entry == "constant"]
        assert constant.tested.kl_to_reference is None
        assert constant.tested.reward.half_width == 0.0
    lines = files["README.md"].splitlines()
    heads = next(line for line in lines if line.startswith("| entry |") and "| KL |" in line)
    column = [cell.strip() for cell in heads.split("|")].index("KL")
    row = next(x for x in lines[lines.index(heads) :] if x.startswith("| constant (control)"))
    assert row.split("|")[column].strip() == "–"
    assert "constant,trivial,no,0,completed,test,kl_to_reference" not in files["table.csv"]
