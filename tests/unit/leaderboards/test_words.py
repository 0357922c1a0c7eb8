"""The words of a leaderboard about marked records, on the page and in the README; nothing if there are none."""

from __future__ import annotations

import json
import re

import pytest
from fixtures.leaderboards import (
    fake_content,
    fake_expected,
    fake_spec,
    write_cell,
    write_leaderboard,
)

from lmrl_bench.leaderboards.build import render
from lmrl_bench.leaderboards.collect import collect
from lmrl_bench.leaderboards.overview import with_statistics
from lmrl_bench.leaderboards.render.columns import columns
from lmrl_bench.leaderboards.render.words import FLAGS, decoding_note, fidelity_note
from lmrl_bench.leaderboards.spec import cells
from lmrl_bench.records.record import Fidelity
from lmrl_bench.runs.fidelity import FidelityWatch

SPEC = fake_spec()


@pytest.fixture
def marked(tmp_path):
    write_leaderboard(tmp_path, SPEC, {})
    for cell in cells(SPEC):
        if (cell.task, cell.entry) == ("imdb-continuation", "nlpo") and cell.seed > 0:
            content = fake_content(cell)
            content["fidelity"] = {
                "max_logprob_difference": 0.4,
                "flags": ["max_logprob_difference"],
            }
            write_cell(tmp_path, SPEC.name, cell, content)
    return collect(SPEC, tmp_path, fake_expected)


def test_marked_runs_are_named_where_their_numbers_stand(marked):
    note = "nlpo (seeds 1, 2): the policy that was scored is not the one that sampled"
    assert note in fidelity_note(marked.tasks[0].entries)
    assert fidelity_note(marked.tasks[1].entries) == ""
    files = {name: content.decode() for name, content in render(marked).items()}
    for name in ("README.md", "index.html"):
        assert files[name].count(note) == 1, name
    assert files["leaderboard.json"].count('"max_logprob_difference"') == 2


def test_sound_runs_are_not_mentioned(tmp_path):
    write_leaderboard(tmp_path, SPEC, {})
    files = render(collect(SPEC, tmp_path, fake_expected))
    assert b"Marked runs" not in files["README.md"] + files["index.html"]


def test_every_bound_has_its_words():
    watch = FidelityWatch()
    bounds = set(watch.state())
    assert bounds == set(FLAGS) == set(Fidelity.model_fields) - {"flags"}


def test_a_declared_tuning_is_printed_once_above_the_tables_and_else_nothing(tmp_path):
    write_leaderboard(tmp_path, SPEC, {})
    plain = render(collect(SPEC, tmp_path, fake_expected))
    assert b"Tuning:" not in plain["README.md"] + plain["index.html"]
    assert json.loads(plain["leaderboard.json"])["tuning"] is None
    tuning = {"trials": 8, "seeds": [100, 101], "budget_share": 0.5, "validation_samples": 200}
    files = render(collect(fake_spec(tuning=tuning), tmp_path, fake_expected))
    for name in ("README.md", "index.html"):
        text = " ".join(files[name].decode().split())
        assert text.count("Tuning: 8 settings for each algorithm on each task") == 1
        assert (
            "on 200 validation prompts after 50 % of the token budget, with seeds 100, 101" in text
        )
        assert text.index("Tuning:") < text.index("<table" if name == "index.html" else "| entry |")
    assert json.loads(files["leaderboard.json"])["tuning"] == tuning


def built(tmp_path, edit=lambda _cell, _content: None, **changes):
    """The page of a leaderboard of which every record was edited."""
    spec = fake_spec(**changes)
    for cell in cells(spec):
        content = fake_content(cell)
        edit(cell, content)
        write_cell(tmp_path, spec.name, cell, content)
    table = with_statistics(collect(spec, tmp_path, fake_expected))
    return table, {name: content.decode() for name, content in render(table).items()}


def test_captions_say_what_is_there(tmp_path):
    """Two seeds have no mean, no marks and no ranking; three have all of them."""
    _, two = built(tmp_path / "two", seeds=[0, 1])
    captions = re.findall(r"<caption><span>(.*?)</span>", two["index.html"])
    assert captions[0].startswith("In the order of the leaderboard, which ranks nothing.")
    assert "the value of each seed (an interval needs at least 3)" in captions[0]
    for wrong in ("Best first", "marked cells", "mean ± half of"):
        assert wrong not in " ".join(captions)
    assert "<dt>Tied</dt>" not in two["index.html"]
    _, three = built(tmp_path / "three")
    captions = re.findall(r"<caption><span>(.*?)</span>", three["index.html"])
    assert captions[0].startswith("Best first; a line divides groups of ties.")
    assert "mean ± half of the 95 % interval over seeds; marked cells are the best" in captions[0]


def test_one_task_and_one_seed_are_singular(tmp_path):
    _, files = built(tmp_path, seeds=[0], tasks=fake_spec().tasks[:1])
    assert "1 task, seed 0." in files["index.html"]
    for name in ("index.html", "README.md"):
        assert not re.search(r"\b1 (tasks|seeds|entries|runs)\b", files[name]), name


def test_the_two_lengths_have_two_names_and_no_arrow(tmp_path):
    def edit(cell, content):
        task = content["task"]
        task["metric_signatures"]["length"] = "length|words:whitespace"
        task["held_out_metrics"] = [*task["held_out_metrics"], "length"]
        task["neutral_metrics"] = ["length"]
        for split in content["results"].values():
            split["metrics"]["length"] = {"value": 1.5, "n": 4, "per_sample": False}

    table, files = built(tmp_path, edit)
    titles = [column.title for column in columns(table.tasks[0])]
    assert "length, words" in titles
    assert "tokens per completion" in titles
    assert len(titles) == len(set(titles))
    assert "length ↑" not in files["README.md"] + files["index.html"]


def test_rows_that_differ_in_decoding_say_so(tmp_path):
    table, _ = built(tmp_path)
    assert decoding_note(table) == ""
    entries = [
        entry.model_copy(update={"temperature": 0.7 if entry.entry == "ppo" else None})
        for entry in table.tasks[0].entries
    ]
    tasks = [table.tasks[0].model_copy(update={"entries": entries}), *table.tasks[1:]]
    warm = table.model_copy(update={"tasks": tasks})
    assert decoding_note(warm) == (
        "Evaluated with another decoding than the task's: ppo at temperature 0.7."
    )
    files = render(warm)
    for name in ("index.html", "README.md"):
        assert b"ppo at temperature 0.7" in files[name]
