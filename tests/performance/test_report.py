"""From rounds to figures, the table and the document."""

import json

import pytest
from fixtures.rounds import a_round
from harness.compare import Contest, PerformanceError, read_round
from harness.report import COLUMNS, contests_of, document, figures, table
from harness.workloads import WORKLOADS


def a_contest(passes=4):
    """Three turns; ours was disturbed in the second, the floor in the third."""
    contest = Contest(WORKLOADS["S"], "ppo", passes)
    contest.versions = {"floor": {"torch": "2"}, "ours": {"torch": "2"}}
    contest.left_out = {"trl": "no module"}
    floor = {"generate": 0.2, "passes": [0.1, 0.2, 0.1, 0.2]}
    slow = {"generate": 0.5, "passes": [0.3, 0.45, 0.3, 0.45]}
    contest.turns = [
        {"floor": a_round(0.8, 0.8, **floor), "ours": a_round(1.6, 1.6, update=0.9)},
        {"floor": a_round(0.8, 0.8, **floor), "ours": a_round(4.0, 2.0, update=2.2)},
        {"floor": a_round(2.0, 0.8, **slow), "ours": a_round(2.4, 2.4, update=1.2, peak=700.0)},
    ]
    return contest


def test_disturbed_rounds_are_thrown_away_and_counted():
    found = figures(a_contest(), "ours")
    assert (found.clean, found.played) == (2, 3)
    assert (found.wall_s, found.wall_range) == (2.0, (1.6, 2.4))
    assert found.tokens_per_s == 384 / 2.0
    assert found.sampling_tokens_per_s == 384 / 0.5
    assert found.peak_mib == 700.0


def test_the_ratio_is_of_paired_clean_turns():
    found = figures(a_contest(), "ours")
    assert found.ratio == pytest.approx(1.6 / 0.8)  # the only turn in which both were undisturbed
    assert found.cpu_ratio == pytest.approx(2.0 / 0.8)  # all turns: 2, 2.5 and 3
    assert found.ours_ratio == 1.0
    assert figures(a_contest(), "floor").ours_ratio == pytest.approx(0.8 / 1.6)


def test_the_update_is_compared_with_the_floor_s_passes_alone():
    assert figures(a_contest(), "ours").update_ratio == pytest.approx(0.9 / (4 * 0.15))
    assert figures(a_contest(passes=2), "ours").update_ratio == pytest.approx(0.9 / (2 * 0.15))
    assert figures(a_contest(), "floor").update_ratio is None


def test_the_floor_has_as_many_passes_as_the_algorithm():
    assert figures(a_contest(), "floor").wall_s == pytest.approx(0.2 + 4 * 0.15)
    once = figures(a_contest(passes=1), "floor")
    assert once.wall_s == pytest.approx(0.2 + 0.15)
    assert once.cpu_s == pytest.approx(0.35)
    assert once.ratio == 1.0


def test_without_a_clean_round_there_is_no_figure():
    contest = a_contest()
    contest.turns = contest.turns[1:2]
    found = figures(contest, "ours")
    assert found.wall_s is None
    assert found.ratio is None
    assert found.clean == 0
    assert found.cpu_s == 2.0


def test_table():
    lines = table([a_contest()]).splitlines()
    assert lines[0] == f"| {' | '.join(COLUMNS)} |"
    assert len(lines) == 4
    cells = [cell.strip() for cell in lines[3].strip("|").split("|")]
    assert dict(zip(COLUMNS, cells, strict=True)) | {"foreign": ""} == {
        "workload": "S",
        "algorithm": "ppo",
        "side": "ours",
        "seconds": "2.00",
        "min-max": "1.60-2.40",
        "CPU s": "2.00",
        "tokens/s sampling": "768",
        "tokens/s": "192",
        "steps": "4",
        "peak MiB": "700",
        "x ours": "1.00",
        "x floor": "2.00",
        "x floor CPU": "2.50",
        "update x floor": "1.50",
        "clean": "2 of 3",
        "foreign": "",
    }


def test_document_holds_every_round():
    stored = json.loads(json.dumps(document([a_contest()])))
    assert stored["schema"] == 2
    assert stored["threads"] == 1
    assert stored["machine"]["cores"]
    (contest,) = stored["contests"]
    assert contest["workload"]["name"] == "S"
    assert contest["left_out"] == {"trl": "no module"}
    rounds = contest["sides"]["ours"]["rounds"]
    assert [played["disturbance"] for played in rounds] == [None, "had 50% of a core", None]
    assert contest["sides"]["ours"]["figures"]["wall_s"] == 2.0
    with pytest.raises(PerformanceError, match="not a measurement of schema 2"):
        contests_of(stored | {"schema": 1})
    del rounds[0]["disturbance"]
    assert read_round(rounds[0]) == a_contest().turns[0]["ours"]
