"""Two seeds that share most of what they logged or answered are one run; separate runs share little."""

from __future__ import annotations

import json
import random
from itertools import combinations
from pathlib import Path

import pytest
from fixtures.leaderboards import fake_content, fake_samples, fake_spec, write_cell

from lmrl_bench.leaderboards.spec import cells
from lmrl_bench.records.store import find_folders, read_record, write_curves, write_samples
from lmrl_bench.verification import copies as module
from lmrl_bench.verification.copies import LEAST, SHARE, copies

RESULTS = Path(__file__).parents[3] / "results"
CELLS = [cell for cell in cells(fake_spec()) if cell.entry == "ppo"][:3]


def curves(rng, iterations=6):
    return [
        {"kind": "train", "iteration": n, "tokens": 10 * n, "episodes": n, "optimizer_steps": n,
         "progress": 0.1, "rollout/entropy": rng.uniform(1, 4), "update/gradient_norm": rng.uniform(0, 2)}
        for n in range(1, iterations + 1)
    ]  # fmt: skip


def answers(cell, rng):
    ids = iter([[rng.randrange(100) for _ in range(14)] for _ in range(20)])
    return [row | {"completion_ids": next(ids)} for row in fake_samples(cell)]


def write(root, cell, lines, rows):
    folder = write_cell(root, "fake", cell, fake_content(cell))
    content = json.loads((folder / "record.json").read_text())
    content["curves"] = write_curves(folder, lines).model_dump()
    content["samples"] = write_samples(folder, rows).model_dump()
    (folder / "record.json").write_text(json.dumps(content))
    return folder


def found(folders, *, greedy=False):
    return copies({folder: read_record(folder) for folder in folders}, greedy)


@pytest.fixture
def two(tmp_path):
    """Two seeds; a function of the lines and rows of the second."""

    def make(change=lambda lines, rows, mine: (lines, rows)):
        rng, other = random.Random(1), random.Random(2)
        lines, rows = curves(rng), answers(CELLS[0], rng)
        mine = (curves(other), answers(CELLS[1], other))
        first = write(tmp_path, CELLS[0], lines, rows)
        second = write(tmp_path, CELLS[1], *change(lines, rows, mine))
        return first, second

    return make


def test_separate_runs_are_not_copies(two):
    assert found(two(lambda lines, rows, mine: mine)) == []


def test_a_copy_with_one_number_and_one_id_changed(two):
    def change(lines, rows, mine):
        lines = [*lines[:-1], lines[-1] | {"update/gradient_norm": 0.5}]
        rows = [rows[0] | {"completion_ids": [7, *rows[0]["completion_ids"][1:]]}, *rows[1:]]
        return lines, rows

    first, second = two(change)
    (problem,) = found([first, second])
    assert str(first) in problem
    assert problem.startswith(str(second))
    assert "numbers of training" in problem
    assert "they are one run" in problem


def test_numbers_that_are_all_moved_a_little(two):
    def change(lines, rows, mine):
        return [
            {k: v * (1 + 1e-6) if isinstance(v, float) else v for k, v in line.items()}
            for line in lines
        ], mine[1]

    (problem,) = found(two(change))
    assert "numbers of training" in problem


def test_the_answers_of_another_seed(two):
    def change(lines, rows, mine):
        half = [row | {"completion_ids": other["completion_ids"]} if n % 3 else row for n, (row, other)
                in enumerate(zip(rows, mine[1], strict=True))]  # fmt: skip
        return mine[0], half

    folders = two(change)
    (problem,) = found(folders)
    assert "parts of its completions" in problem
    assert found(folders, greedy=True) == []  # seeds of a greedy policy may honestly answer alike


def test_a_policy_that_always_answers_the_same(two):
    def change(lines, rows, mine):
        return mine[0], [row | {"completion_ids": [3] * 14} for row in rows]

    first, second = two(change)
    rng = random.Random(3)
    rows = [row | {"completion_ids": [3] * 14} for row in answers(CELLS[2], rng)]
    again = write(first.parents[3], CELLS[2], curves(rng), rows)
    assert found([first, second, again]) == []


@pytest.mark.parametrize("leaderboard", ["quickstart", "nano"])
def test_committed_runs_share_less_than_a_third_of_the_bound(leaderboard):
    """Checks the largest share of honest runs; the module's docstring has the numbers."""
    for task in sorted((RESULTS / leaderboard).iterdir()):
        records = {folder: read_record(folder) for folder in find_folders(task)}
        marks = {f: m for f, r in records.items() if (m := module._marks(f, r))}
        assert len(marks) > 10
        worst = {"numbers": 0.0, "parts": 0.0}
        for first, second in combinations(marks, 2):
            for kind in worst:
                one, two = (getattr(marks[folder], kind) for folder in (first, second))
                least = min(len(one), len(two))
                if least >= 10 * LEAST:
                    worst[kind] = max(worst[kind], len(one & two) / least)
        assert max(worst.values()) < SHARE / 3, (task, worst)
        assert copies(records, greedy=False) == []
