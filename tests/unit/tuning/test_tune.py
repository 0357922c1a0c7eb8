"""Tuning: equal trials for every algorithm, other seeds than the leaderboard's, resumed, written honestly."""

from __future__ import annotations

import json
import math

import pytest
import yaml
from fixtures.runs import SETTINGS, call

from lmrl_bench.algorithms import ALGORITHMS
from lmrl_bench.algorithms.search import Around, OneOf
from lmrl_bench.config.loading import load_yaml
from lmrl_bench.core.errors import ConfigError
from lmrl_bench.launchers import LAUNCHERS
from lmrl_bench.launchers.base import Result, perform
from lmrl_bench.leaderboards.spec import read_leaderboard
from lmrl_bench.planning.cells import plan
from lmrl_bench.planning.plan import RerunPolicy
from lmrl_bench.planning.resolve import resolve
from lmrl_bench.planning.tuned_settings import tuning_facts
from lmrl_bench.planning.tuning_protocol import require_declared, undeclared
from lmrl_bench.records.store import find_records, read_record
from lmrl_bench.tasks.catalog import load_task
from lmrl_bench.tuning.study import plan_tuning
from lmrl_bench.tuning.tune import tune

TUNING = {"trials": 3, "seeds": [100], "validation_samples": 4}
TRAINED = ("ppo", "reinforce")


class KilledError(Exception):
    """Stands for a process that is gone."""


@pytest.fixture
def leaderboard(world):
    """A leaderboard of one task, two algorithms that are tuned, and rows that are not; returns a writer of it."""
    (world.folder / "algorithms").mkdir()
    for name in TRAINED:
        keys = ["episodes_per_iteration", "learning_rate"]
        keys += ["minibatch_episodes", "epochs"] if name == "ppo" else []
        settings = {key: SETTINGS["algorithm"][key] for key in keys}
        text = "# by hand\n" + yaml.safe_dump({"algorithm": settings})
        (world.folder / "algorithms" / f"{name}.yaml").write_text(text)
    content = {
        "name": "tiny",
        "title": "Tiny",
        "tasks": [{"task": "toy"}],
        "entries": [
            {"entry": "zero-shot", "algorithm": "no-training"},
            {
                "entry": "ppo-fixed",
                "algorithm": "ppo",
                "config": {"algorithm": {"clip_range": 0.3}},
            },
            *({"entry": name, "algorithm": name} for name in TRAINED),
        ],
        "seeds": [0, 1],
        "config": {key: SETTINGS[key] for key in ("policy", "budget", "evaluation")},
        "baselines": {"sft": None},
        "tuning": TUNING,
    }
    path = world.root / "tiny" / "leaderboard.yaml"
    path.parent.mkdir()

    def write(**changes):
        path.write_text(yaml.safe_dump({**content, **changes}))
        return path

    return write


@pytest.fixture
def in_process(monkeypatch):
    """Runs jobs here; returns the names of those that were begun, and a switch that kills after a number of runs."""
    begun, switch = [], {"kill_after": math.inf}

    class InProcess:
        stopped = False

        def submit(self, jobs, progress):
            for index, job in enumerate(jobs):
                if len(begun) >= switch["kill_after"]:
                    raise KilledError
                begun.append(job.name)
                try:
                    yield Result(index, value=perform(job, progress))
                except Exception as error:
                    yield Result(index, error=f"{type(error).__name__}: {error}")

    monkeypatch.setitem(LAUNCHERS._objects, "local", lambda _workers: InProcess())
    return begun, switch


def tuned(path, out, **changes):
    plan = plan_tuning(read_leaderboard(path), **changes)
    assert tune(plan, out, workers=1, rerun=RerunPolicy.NONE)
    return {study.name: study for study in plan.studies}


def settings_of(studies):
    return {name: [trial.settings for trial in study.trials] for name, study in studies.items()}


def test_every_algorithm_gets_the_same_trials_on_other_seeds(world, leaderboard, in_process):
    studies = tuned(leaderboard(), world.root / "trials")
    assert list(studies) == ["toy/ppo", "toy/reinforce"]
    for study in studies.values():
        assert len(study.trials) == 3
        assert dict(study.trials[0].settings) == study.present
        assert study.present["learning_rate"] == 0.01  # the task's file, not the class's default
        assert len({json.dumps(dict(trial.settings)) for trial in study.trials}) == 3
        for trial in study.trials[1:]:
            assert 0.0025 <= trial.settings["learning_rate"] <= 0.04
    records = list(find_records(world.root / "trials"))
    assert len(records) == 6
    for record in records:
        assert record.seed == 100
        assert set(record.results) == {"validation"}, "a trial must not see the test split"
        assert record.results["validation"].n == 4


def test_the_value_is_the_primary_metric_of_the_last_validation(world, leaderboard, in_process):
    studies = tuned(leaderboard(tuning={**TUNING, "seeds": [100, 101]}), world.root / "trials")
    study = studies["toy/ppo"]
    for trial in study.trials:
        values = []
        for seed in (100, 101):
            folder = world.root / "trials" / "toy" / "ppo" / str(trial.number) / str(seed)
            lines = [json.loads(line) for line in (folder / "curves.jsonl").open()]
            values.append([v for v in lines if v["kind"] == "validation"][-1]["metric/chrf"])
        assert trial.value == pytest.approx(sum(values) / 2)
    best = max(study.trials, key=lambda trial: trial.value)
    assert study.best.value == best.value


def test_a_killed_tuning_goes_on_and_ends_the_same(world, leaderboard, in_process):
    begun, switch = in_process
    whole = settings_of(tuned(leaderboard(), world.root / "whole"))
    begun.clear()
    switch["kill_after"] = 3
    with pytest.raises(KilledError):
        tuned(leaderboard(), world.root / "killed")
    first = list(begun)
    switch["kill_after"] = math.inf
    again = tuned(leaderboard(), world.root / "killed")
    assert settings_of(again) == whole
    assert len(first) == 3
    assert sorted(begun) == sorted({*begun}), "nothing ran twice"
    assert len(begun) == 6


def test_neither_order_nor_selection_changes_what_is_proposed(world, leaderboard, in_process):
    path = leaderboard()
    whole = settings_of(tuned(path, world.root / "a"))
    entries = [{"entry": name, "algorithm": name} for name in reversed(TRAINED)]
    entries.append({"entry": "zero-shot", "algorithm": "no-training"})
    turned = tuned(leaderboard(entries=entries), world.root / "b")
    assert list(turned) == ["toy/reinforce", "toy/ppo"]
    assert settings_of(turned) == whole
    alone = tuned(path, world.root / "c", algorithms=["reinforce"], tasks=["toy"])
    assert settings_of(alone) == {"toy/reinforce": whole["toy/reinforce"]}


def test_a_failing_trial_is_the_worst_and_is_kept(world, leaderboard, in_process, monkeypatch):
    search = {"clip_range": OneOf((1e-9,))}  # the present one, 0.2, or one that fails below
    monkeypatch.setattr(ALGORITHMS.get("ppo").config_class, "search_space", search)
    failing = ALGORITHMS.get("ppo").update

    def update(self, batch):
        if self.config.clip_range < 0.1:
            raise RuntimeError("planted")
        return failing(self, batch)

    monkeypatch.setattr(ALGORITHMS.get("ppo"), "update", update)
    study = tuned(leaderboard(), world.root / "trials", trials=6, algorithms=["ppo"])["toy/ppo"]
    bad = [trial for trial in study.trials if trial.settings["clip_range"] < 0.1]
    assert bad, "the sampler never proposed it; take another seed"
    assert len(study.trials) == 6
    assert all(trial.value is None and study.worth(trial) == -math.inf for trial in bad)
    assert study.best.value is not None
    record = read_record(world.root / "trials" / "toy" / "ppo" / str(bad[0].number) / "100")
    assert (record.status, record.error.message) == ("failed", "planted")
    again = tuned(leaderboard(), world.root / "trials", trials=6, algorithms=["ppo"])["toy/ppo"]
    assert again.trials == study.trials


def test_of_equal_trials_the_present_settings_stay(world, leaderboard, in_process, monkeypatch):
    monkeypatch.setattr(
        ALGORITHMS.get("ppo").config_class, "search_space", {"target_kl": OneOf((9e9,))}
    )  # never reached: all trials are equal
    study = tuned(leaderboard(), world.root / "trials", algorithms=["ppo"])["toy/ppo"]
    assert len({trial.value for trial in study.trials}) == 1
    assert study.best.number == 0


def test_less_is_better_where_the_metric_says_so(world, leaderboard, in_process):
    world.edit_task(metrics={"primary": {"name": "ter"}, "held_out": [{"name": "bleu"}]})
    study = tuned(leaderboard(), world.root / "trials", algorithms=["ppo"])["toy/ppo"]
    assert study.metric == "ter"
    assert study.best.value == min(trial.value for trial in study.trials)


def test_the_command_writes_settings_that_load_and_say_how_they_were_made(
    world, leaderboard, in_process, capsys
):
    path = leaderboard()
    refused = call(capsys, "leaderboard", "run", path, "--dry-run")
    assert refused.code == 2
    assert (
        "\ntoy/algorithms/ppo.yaml, toy/algorithms/reinforce.yaml: never tuned; run "
        "lmrl-bench leaderboard tune tiny --write\n" in refused.err
    )
    shown = call(capsys, "leaderboard", "tune", path, "--dry-run")
    assert "tiny: 3 trials for each of 2 pairs of task and algorithm" in shown.err
    assert "6 runs, 360 tokens" in shown.err
    assert not list(world.root.glob("results/tuning/**/record.json"))

    done = call(capsys, "leaderboard", "tune", path, "--write", "--json")
    assert done.code == 0, done.err
    rows = {row["algorithm"]: row for row in done.json}
    for name in TRAINED:
        file = world.folder / "algorithms" / f"{name}.yaml"
        facts = tuning_facts(file)
        assert facts.model_dump(include={"leaderboard", "trials", "seeds", "tokens"}) == {
            "leaderboard": "tiny",
            "trials": 3,
            "seeds": [100],
            "tokens": 60,
        }
        assert facts.value == rows[name]["best"] >= facts.value_before == rows[name]["before"]
        assert facts.tokens_spent == rows[name]["tokens"] >= 180
        config = resolve(load_task("toy"), {"algorithm": {"name": name}})
        for field, value in json.loads(rows[name]["settings"]).items():
            found = config.algorithm.model_dump()
            for key in field.split("."):
                found = found[key]
            assert found == value
        kept = load_yaml(file).data["algorithm"]["episodes_per_iteration"]
        assert kept == SETTINGS["algorithm"]["episodes_per_iteration"]
    require_declared(read_leaderboard(path))
    assert call(capsys, "leaderboard", "run", path, "--dry-run").code == 0


def test_a_declaration_must_be_what_the_files_say(world, leaderboard, in_process, capsys):
    assert call(capsys, "leaderboard", "tune", leaderboard(), "--write").code == 0
    for change in ({"trials": 4}, {"seeds": [101]}, {"budget_share": 0.5}):
        with pytest.raises(ConfigError, match=r"(?s)/ppo\.yaml.*/reinforce\.yaml: "):
            require_declared(read_leaderboard(leaderboard(tuning={**TUNING, **change})))
    file = world.folder / "algorithms" / "ppo.yaml"
    file.write_text(file.read_text().replace("minibatch_episodes: 4", "minibatch_episodes: 2"))
    assert undeclared(read_leaderboard(leaderboard())) == [
        "toy/algorithms/ppo.yaml: changed since they were tuned; restore them, or run "
        "lmrl-bench leaderboard tune tiny --task toy --algorithm ppo --write"
    ]
    again = ("--task", "toy", "--algorithm", "ppo", "--write")
    assert call(capsys, "leaderboard", "tune", leaderboard(), *again, "--out", "again").code == 0
    require_declared(read_leaderboard(leaderboard()))


@pytest.fixture
def kept(monkeypatch):
    """PPO has nothing to gain: every trial reaches the same, so the settings stay."""
    monkeypatch.setattr(
        ALGORITHMS.get("ppo").config_class, "search_space", {"target_kl": OneOf((9e9, 8e9, 7e9))}
    )


def test_after_a_change_of_the_protocol_the_remedy_leads_to_a_leaderboard_that_is_taken(
    world, leaderboard, in_process, capsys
):
    entries = [
        {"entry": "zero-shot", "algorithm": "no-training"},
        {"entry": "ppo", "algorithm": "ppo"},
    ]
    assert call(capsys, "leaderboard", "tune", leaderboard(entries=entries), "--write").code == 0
    changed = {**TUNING, "budget_share": 0.5}
    path = leaderboard(entries=entries, tuning=changed)
    (line,) = undeclared(read_leaderboard(path))
    assert line == (
        "toy/algorithms/ppo.yaml: tokens 60 (declared: 30); declare what was done, or run "
        "lmrl-bench leaderboard tune tiny --write; the 3 earlier trials count, too, so then declare trials: 6"
    )
    tuned_again = call(capsys, "leaderboard", "tune", path, "--write", "--out", "half")
    assert tuned_again.code == 0
    assert (
        "not as the leaderboard declares: toy/algorithms/ppo.yaml: trials 6 (declared: 3); all of them"
        in (tuned_again.err)
    )
    assert tuned_again.err.rstrip().endswith("declare trials: 6")
    require_declared(
        read_leaderboard(leaderboard(entries=entries, tuning={**changed, "trials": 6}))
    )


@pytest.mark.parametrize("stay", [True, False], ids=["settings stay", "settings change"])
def test_more_trials_are_declared_and_made(world, leaderboard, in_process, capsys, request, stay):
    if stay:
        request.getfixturevalue("kept")
    entries = [
        {"entry": "zero-shot", "algorithm": "no-training"},
        {"entry": "ppo", "algorithm": "ppo"},
    ]
    assert call(capsys, "leaderboard", "tune", leaderboard(entries=entries), "--write").code == 0
    path = leaderboard(entries=entries, tuning={**TUNING, "trials": 5})
    (line,) = undeclared(read_leaderboard(path))
    count = "5" if stay else "2"  # it goes on, or begins again from the new settings
    assert line == (
        "toy/algorithms/ppo.yaml: trials 3 (declared: 5); run lmrl-bench leaderboard tune tiny "
        f"--trials {count} --write"
    )
    out = "results/tuning/tiny" if stay else "more"
    assert (
        call(capsys, "leaderboard", "tune", path, "--trials", count, "--write", "--out", out).code
        == 0
    )
    require_declared(read_leaderboard(path))


def test_settings_of_another_leaderboard_are_not_tuned_away_under_it(
    world, leaderboard, in_process, capsys
):
    assert call(capsys, "leaderboard", "tune", leaderboard(), "--write").code == 0
    require_declared(read_leaderboard(leaderboard(name="other")))  # the same protocol
    lines = undeclared(read_leaderboard(leaderboard(name="other", tuning={**TUNING, "trials": 9})))
    assert lines == [
        "toy/algorithms/ppo.yaml, toy/algorithms/reinforce.yaml: trials 3 (declared: 9); tuned by the "
        "leaderboard 'tiny', which takes them, too: declare its tuning, or give the entry settings of its own "
        "(`config: {algorithm: …}`)"
    ]


def test_trials_are_never_forgotten(world, leaderboard, in_process, capsys, kept):
    """The second tuning kept the settings: done once more, or shorter, it is the same, after the first."""
    entries = [
        {"entry": "zero-shot", "algorithm": "no-training"},
        {"entry": "ppo", "algorithm": "ppo"},
    ]
    file = world.folder / "algorithms" / "ppo.yaml"
    half = leaderboard(entries=entries, tuning={**TUNING, "budget_share": 0.5})
    assert call(capsys, "leaderboard", "tune", half, "--write", "--out", "first").code == 0
    path = leaderboard(entries=entries)
    for trials, counted in ((3, 6), (3, 6), (2, 6), (4, 7)):
        arguments = ("leaderboard", "tune", path, "--write", "--out", "second", "--trials", trials)
        assert call(capsys, *map(str, arguments)).code == 0
        assert (tuning_facts(file).trials, tuning_facts(file).best_trial) == (counted, 0)
    assert tuning_facts(file).earlier_trials == 3


def test_what_is_tuned_again_counts_all_its_trials(world, leaderboard, in_process, capsys):
    entries = [
        {"entry": "zero-shot", "algorithm": "no-training"},
        {"entry": "ppo", "algorithm": "ppo"},
    ]
    path = leaderboard(entries=entries)
    assert call(capsys, "leaderboard", "tune", path, "--write", "--out", "first").code == 0
    file = world.folder / "algorithms" / "ppo.yaml"
    first = tuning_facts(file)
    assert call(capsys, "leaderboard", "tune", path, "--write", "--out", "second").code == 0
    second = tuning_facts(file)
    assert second.trials == 6
    assert second.tokens_spent > first.tokens_spent
    assert second.value >= second.value_before == pytest.approx(first.value)
    with pytest.raises(ConfigError, match=r"ppo\.yaml"):
        require_declared(read_leaderboard(path))
    require_declared(read_leaderboard(leaderboard(entries=entries, tuning={**TUNING, "trials": 6})))


def test_a_tuning_that_kept_the_settings_writes_the_same_file_again(
    world, leaderboard, in_process, capsys, monkeypatch
):
    monkeypatch.setattr(
        ALGORITHMS.get("ppo").config_class, "search_space", {"target_kl": OneOf((9e9,))}
    )
    arguments = ("leaderboard", "tune", leaderboard(), "--algorithm", "ppo", "--write")
    assert call(capsys, *arguments).code == 0
    file = world.folder / "algorithms" / "ppo.yaml"
    before = file.read_text()
    assert tuning_facts(file).best_trial == 0
    assert call(capsys, *arguments).code == 0
    assert file.read_text() == before


def test_only_the_runtime_may_be_set(leaderboard, capsys):
    refused = call(capsys, "leaderboard", "tune", leaderboard(), "--set", "budget.tokens=9")
    assert refused.code == 2
    assert "only runtime.* may be set" in refused.err


def test_trials_of_other_settings_are_left_alone(world, leaderboard, in_process, capsys):
    path = leaderboard()
    assert call(capsys, "leaderboard", "tune", path).code == 0
    file = world.folder / "algorithms" / "ppo.yaml"
    file.write_text(file.read_text().replace("epochs: 1", "epochs: 2"))
    changed = call(capsys, "leaderboard", "tune", path)
    assert changed.code == 2
    assert "algorithm.epochs is 1 in the record, 2 today" in changed.err
    assert "--out, or --rerun stale" in changed.err
    assert call(capsys, "leaderboard", "tune", path, "--rerun", "stale").code == 0


def test_seeds_of_the_leaderboard_are_refused(leaderboard):
    with pytest.raises(ConfigError, match=r"tuning\.seeds: 1 is a seed of the leaderboard"):
        read_leaderboard(leaderboard(tuning={**TUNING, "seeds": [1, 100]}))
    undeclared = read_leaderboard(leaderboard(tuning=None, seeds=[0, 100]))
    with pytest.raises(ConfigError, match="100 is a seed of the leaderboard"):
        plan_tuning(undeclared)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tasks": ["toi"]}, "--task toi: the leaderboard tunes no such task; did you mean 'toy'"),
        (
            {"algorithms": ["no-training"]},
            "--algorithm no-training: the leaderboard tunes no such algorithm",
        ),
    ],
)
def test_names_that_are_not_the_leaderboards(leaderboard, changes, message):
    with pytest.raises(ConfigError, match=message):
        plan_tuning(read_leaderboard(leaderboard()), **changes)


def test_what_the_leaderboard_fixes_is_not_searched_and_zero_has_no_surroundings(leaderboard):
    settings = {key: SETTINGS[key] for key in ("policy", "budget", "evaluation")}
    fixed = {**settings, "algorithm": {"kl": {"coefficient": 0.02}}}
    for study in plan_tuning(read_leaderboard(leaderboard(config=fixed))).studies:
        assert "kl.coefficient" not in study.space
        assert "learning_rate" in study.space
    ppo = read_leaderboard(leaderboard())
    assert "kl.coefficient" in plan_tuning(ppo, algorithms=["ppo"]).studies[0].space
    path = load_task("toy").folder / "algorithms" / "ppo.yaml"
    path.write_text(path.read_text() + "  kl: {coefficient: 0.0}\n")
    with pytest.raises(ConfigError, match=r"kl\.coefficient is 0\.0, and is searched by factors"):
        plan_tuning(ppo)


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_a_search_space_names_fields_that_exist_and_values_that_are_valid(name):
    config_class = ALGORITHMS.get(name).config_class
    for field, what in config_class.search_space.items():
        values = config_class().model_dump()
        *parents, last = field.split(".")
        place = values
        for key in parents:
            place = place[key]
        present = place[last]
        tried = (
            [present / what.factor, present * what.factor]
            if isinstance(what, Around)
            else what.values
        )
        for value in tried:
            place[last] = value
            config_class.model_validate(values)


def test_a_leaderboard_needs_a_test(leaderboard):
    settings = {key: SETTINGS[key] for key in ("policy", "budget")}
    path = leaderboard(tuning=None, config={**settings, "evaluation": {"test_samples": 0}})
    with pytest.raises(ConfigError, match="test_samples is 0; a leaderboard needs a test"):
        plan(read_leaderboard(path), path.parent)
