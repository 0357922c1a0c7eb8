"""What a board says of runs whose records are marked: on the page and in the README, and nothing if there are none."""

from __future__ import annotations

import json

import pytest
from fixtures.boards import fake_content, fake_expected, fake_spec, write_board, write_cell

from lmrl_bench.leaderboards.build import render
from lmrl_bench.leaderboards.collect import collect
from lmrl_bench.leaderboards.render.words import FLAGS, fidelity_note
from lmrl_bench.leaderboards.spec import cells
from lmrl_bench.records.record import Fidelity
from lmrl_bench.runs.fidelity import FidelityWatch

SPEC = fake_spec()


@pytest.fixture
def marked(tmp_path):
    write_board(tmp_path, SPEC, {})
    for cell in cells(SPEC):
        if (cell.task, cell.label) == ("imdb-continuation", "nlpo") and cell.seed > 0:
            content = fake_content(cell)
            content["fidelity"] = {
                "max_logprob_difference": 0.4,
                "flags": ["max_logprob_difference"],
            }
            write_cell(tmp_path, SPEC.name, cell, content)
    return collect(SPEC, tmp_path, fake_expected)


def test_marked_runs_are_named_where_their_numbers_stand(marked):
    note = "nlpo (seeds 1, 2): the policy that was scored is not the one that sampled"
    assert note in fidelity_note(marked.tasks[0].rows)
    assert fidelity_note(marked.tasks[1].rows) == ""
    files = {name: content.decode() for name, content in render(marked).items()}
    for name in ("README.md", "index.html"):
        assert files[name].count(note) == 1, name
    assert files["board.json"].count('"max_logprob_difference"') == 2


def test_sound_runs_are_not_mentioned(tmp_path):
    write_board(tmp_path, SPEC, {})
    files = render(collect(SPEC, tmp_path, fake_expected))
    assert b"Marked runs" not in files["README.md"] + files["index.html"]


def test_every_bound_has_its_words():
    watch = FidelityWatch()
    bounds = set(watch.state())
    assert bounds == set(FLAGS) == set(Fidelity.model_fields) - {"flags"}


def test_a_declared_tuning_is_printed_once_above_the_tables_and_else_nothing(tmp_path):
    write_board(tmp_path, SPEC, {})
    plain = render(collect(SPEC, tmp_path, fake_expected))
    assert b"Tuning:" not in plain["README.md"] + plain["index.html"]
    assert json.loads(plain["board.json"])["tuning"] is None
    tuning = {"trials": 8, "seeds": [100, 101], "budget_share": 0.5, "validation_samples": 200}
    files = render(collect(fake_spec(tuning=tuning), tmp_path, fake_expected))
    for name in ("README.md", "index.html"):
        text = " ".join(files[name].decode().split())
        assert text.count("Tuning: 8 settings for each algorithm on each task") == 1
        assert (
            "on 200 validation prompts after 50 % of the token budget, with seeds 100, 101" in text
        )
        assert text.index("Tuning:") < text.index("<table" if name == "index.html" else "| row |")
    assert json.loads(files["board.json"])["tuning"] == tuning
