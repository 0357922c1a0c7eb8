"""The headline above the tables: the leader, by how much, how sure it is; on leaderboards of every kind."""

from __future__ import annotations

from fixtures.leaderboards import fake_expected, fake_spec, write_leaderboard

from lmrl_bench.leaderboards.collect import collect
from lmrl_bench.leaderboards.estimates import Estimate
from lmrl_bench.leaderboards.overview import with_statistics
from lmrl_bench.leaderboards.render.headline import facts, joined, lead


def made(tmp_path, statuses=(), **changes):
    spec = fake_spec(**changes)
    write_leaderboard(tmp_path, spec, dict(statuses))
    return with_statistics(collect(spec, tmp_path, fake_expected))


def with_groups(table, *groups):
    """The table with other groups of ties, and the leader's and the second group's numbers set."""
    entries = [
        entry.model_copy(
            update={
                "iqm": Estimate(value=1.5, low=1.4, high=1.7),
                "behind": Estimate(value=0.25, low=0.1, high=0.4),
            }
        )
        for entry in table.overview.entries
    ]
    found = table.overview.model_copy(
        update={"groups": [list(g) for g in groups], "entries": entries}
    )
    return table.model_copy(update={"overview": found})


def test_one_leader_and_who_is_behind(tmp_path):
    table = with_groups(made(tmp_path), ["ppo"], ["a2c", "sft"], ["zero-shot"])
    assert lead(table) == [
        "**ppo** leads over all 2 tasks: its score is **1.50 (95 % interval 1.40 to 1.70)**, where 0 is "
        "the zero-shot policy and 1 the SFT policy.",
        "Next, 0.25 (95 % interval 0.10 to 0.40) behind: a2c and sft, which are tied.",
    ]


def test_leaders_that_are_tied(tmp_path):
    first = lead(with_groups(made(tmp_path), ["ppo", "a2c"], ["sft"]))
    assert first[0].startswith(
        "**ppo** and **a2c** lead together, tied, over all 2 tasks: ppo's score"
    )
    assert first[1] == "Next, 0.25 (95 % interval 0.10 to 0.40) behind: sft."


def test_a_leader_with_a_filter_is_also_shown_through_it(tmp_path):
    lines = lead(with_groups(made(tmp_path), ["nlpo"]))
    assert lines[0].startswith("**nlpo** leads")
    assert lines[1] == (
        "That is without its token filter; through it nlpo scores 1.50 (95 % interval 1.40 to 1.70)."
    )


def test_missing_and_collapsed_runs_are_said(tmp_path):
    holes = {("docs-en-de", "ppo", 0): None, ("docs-en-de", "a2c", 1): "diverged"}
    lines = lead(made(tmp_path, holes))
    assert "Without a rank, because runs are missing: ppo." in lines
    assert "1 run failed or diverged and counts as the floor." in lines


def test_a_leaderboard_without_a_scale_says_why(tmp_path):
    spec = {"entries": [{"entry": "ppo", "algorithm": "ppo"}],
            "baselines": {"zero_shot": None, "sft": None}}  # fmt: skip
    (line,) = lead(made(tmp_path, **spec))
    assert line.startswith("There is no comparison over all tasks: leaderboard 'fake', task")
    assert "give `score_normalization` in task.yaml" in line


def test_facts(tmp_path):
    table = made(tmp_path)
    (_, seeds), (_, difference), (_, tied) = facts(table)
    assert seeds == "3 per entry. **Provisional:** a firm rank needs at least 5."
    size = float(difference.split()[0])
    assert size == float(f"{table.power[0].detectable:.2g}")
    assert "sentiment (imdb-continuation) and" in difference
    assert "no proof of equality" in tied
    assert facts(made(tmp_path / "five", seeds=range(5)))[0] == ("Seeds", "5 per entry.")
    assert [term for term, _ in facts(made(tmp_path / "one", seeds=[0]))] == ["Seeds"]


def test_joined():
    assert [joined(words) for words in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == [
        "", "a", "a and b", "a, b and c",
    ]  # fmt: skip
