"""Cheats as data: each changes an honest submission and renews digests and counts, as a careful cheater would.

A key is `<file>: <field>: <what is claimed>`; the field is a row of `lmrl_bench.verification.bounds_table`.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from typing import Any

from fixtures.submissions import PPO, Handed, disguise

from lmrl_bench.core.digests import digest, file_sha256

Cheat = Callable[[Handed], object]
EVERYWHERE = [f"toy/{label}/{seed}" for label in ("start", "ppo") for seed in (0, 1, 2)]
ROW = [f"{PPO}/{seed}" for seed in (0, 1, 2)]


def put(content: dict[str, Any], path: str, value: Any) -> None:
    *names, last = path.split("|")
    for name in names:
        content = content[name]
    content[last] = value(content[last]) if callable(value) else value


def record(path: str, value: Any, places: list[str] | None = None) -> Cheat:
    """Sets a field of a record; by default of ppo/1."""

    def cheat(handed: Handed) -> None:
        for place in places or [f"{PPO}/1"]:
            handed.edit(lambda content: put(content, path, value), place)

    return cheat


def everywhere(path: str, value: Any) -> Cheat:
    """Sets a field of all records alike, so that no record differs from another."""
    return record(path, value, EVERYWHERE)


def lines(change: Callable[[list[dict[str, Any]]], object]) -> Cheat:
    """Changes the curves, and what the record says of the last lines."""

    def cheat(handed: Handed) -> None:
        after: list[dict[str, Any]] = []

        def both(found: list[dict[str, Any]]) -> None:
            change(found)
            after[:] = copy.deepcopy(found)

        handed.edit_curves(both)
        handed.edit(lambda content: agree(content, after))

    return cheat


def agree(content: dict[str, Any], after: list[dict[str, Any]]) -> None:
    """Makes a record say what its curves say."""
    training = [line for line in after if line["kind"] == "train"]
    points = [line for line in after if line["kind"] == "validation"]
    if training:
        last = training[-1]
        content["budget"] |= {
            name: last[name] for name in ("tokens", "episodes", "optimizer_steps")
        }
        content["budget"]["iterations"] = last["iteration"]
        worst = max(line.get("update/max_logprob_difference", 0.0) for line in training)
        content["fidelity"]["max_logprob_difference"] = worst
    if points:
        found = content["results"]["validation"]
        for name in ("reward", "kl_to_reference", "mean_length", "truncated_share"):
            found[name] = points[-1].get(name)
        found["metrics"]["chrf"]["value"] = points[-1].get("metric/chrf")


def of_kind(found: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [line for line in found if line["kind"] == kind]


def training(name: str, value: Any, at: int = -1) -> Cheat:
    """Sets a number of a line of training."""

    def change(found: list[dict[str, Any]]) -> None:
        line = of_kind(found, "train")[at]
        line[name] = value(line[name]) if callable(value) else value

    return lines(change)


def point(name: str, value: Any, at: int = -1) -> Cheat:
    """Sets a number of an evaluation."""

    def change(found: list[dict[str, Any]]) -> None:
        line = of_kind(found, "validation")[at]
        line[name] = value(line[name]) if callable(value) else value

    return lines(change)


def answers(change: Callable[[dict[str, Any]], object], number: int = 0) -> Cheat:
    """Changes one answer, and the record's means with it."""

    def cheat(handed: Handed) -> None:
        kept: list[dict[str, Any]] = []

        def rows(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
            change(found[number])
            kept[:] = found
            return found

        handed.edit_samples(rows)

        def means(content: dict[str, Any]) -> None:
            test, n = content["results"]["test"], len(kept)
            test["mean_length"] = sum(len(row["completion_ids"]) for row in kept) / n
            test["truncated_share"] = sum(not row["terminated"] for row in kept) / n
            test["reward"] = sum(row["reward"] for row in kept) / n
            for part in test["reward_components"]:
                test["reward_components"][part] = sum(row[f"reward/{part}"] for row in kept) / n

        handed.edit(means)

    return cheat


def policy_gone(content: dict[str, Any]) -> None:
    content["policy"] = None


def later_tokens(found: list[dict[str, Any]]) -> None:
    """The last iteration claims ten million tokens."""
    of_kind(found, "train")[-1]["tokens"] = 10_000_000
    of_kind(found, "validation")[-1]["tokens"] = 10_000_000


def longer_training(found: list[dict[str, Any]]) -> None:
    """Two iterations as one: the first line is left out, and the others counted again."""
    found.remove(of_kind(found, "train")[0])


def without_evaluation(found: list[dict[str, Any]]) -> None:
    found.remove(of_kind(found, "validation")[0])


def twice_evaluated(found: list[dict[str, Any]]) -> None:
    found.append(copy.deepcopy(of_kind(found, "validation")[-1]))


def no_training(found: list[dict[str, Any]]) -> None:
    found[:] = of_kind(found, "validation")


def swapped_data(content: dict[str, Any]) -> None:
    content["task"]["data"]["train"] = content["task"]["data"]["test"]


def fewer_prompts(content: dict[str, Any]) -> None:
    test = content["results"]["test"]
    test["n"] = 3
    for value in test["metrics"].values():
        value["n"] = 3


def near_copy(change: Callable[[Handed], object]) -> Cheat:
    """Seed 0's folder under seed 1's number, changed a little."""

    def cheat(handed: Handed) -> None:
        handed.copy(f"{PPO}/0", f"{PPO}/1")
        path = handed.run() / "config.yaml"
        path.write_text(path.read_text().replace("seed: 0", "seed: 1"))
        handed.edit(lambda content: disguise(content, entry="ppo", seed=1))
        change(handed)

    return cheat


def a_little(handed: Handed) -> None:
    """One gradient norm, and one id of one answer that stays the same text."""
    training("update/gradient_norm", lambda value: value * 1.01)(handed)


def every_number_a_little(handed: Handed) -> None:
    def change(found: list[dict[str, Any]]) -> None:
        for line in of_kind(found, "train"):
            line["update/gradient_norm"] *= 1 + 1e-9
            line["rollout/entropy"] *= 1 + 1e-9

    lines(change)(handed)


def other_curves(handed: Handed) -> None:
    """The answers of seed 0 with the curves of seed 2."""
    shutil.copy(handed.run(f"{PPO}/2") / "curves.jsonl", handed.run() / "curves.jsonl")
    found = [json.loads(line) for line in (handed.run() / "curves.jsonl").read_text().splitlines()]
    named = {"sha256": file_sha256(handed.run() / "curves.jsonl"), "rows": len(found)}
    handed.edit(lambda content: content["curves"].update(named))
    handed.edit(lambda content: agree(content, found))


def retyped(content: dict[str, Any]) -> None:
    """The same settings for Python, with another digest."""
    content["config"]["evaluation"]["greedy"] = 0
    content["config_digest"] = digest(content["config"])
    content["id"] = content["id"].rpartition("-")[0] + "-" + content["config_digest"][:8]


def edit(change: Callable[[dict[str, Any]], object], places: list[str] | None = None) -> Cheat:
    def cheat(handed: Handed) -> None:
        for place in places or [f"{PPO}/1"]:
            handed.edit(change, place)

    return cheat


def check_of(change: Callable[[dict[str, Any]], object]) -> Cheat:
    """A verification.json of the entry."""

    def cheat(handed: Handed) -> None:
        digests = {str(seed): str(seed) * 64 for seed in range(3)}
        content = {"level": 1, "by": "me", "date": "2026-01-02", "records": digests}
        content["package_version"] = "0.1.0"
        change(content)
        (handed.folder / PPO / "verification.json").write_text(json.dumps({"checks": [content]}))

    return cheat


def failed(path: str, value: Any) -> Cheat:
    """A run that failed, with a text of its record changed; nothing else lies in its folder but its configuration."""

    def change(content: dict[str, Any]) -> None:
        content |= {"status": "failed", "results": {}, "curves": None, "samples": None}
        content["error"] = {"type": "ValueError", "message": "m", "iteration": 1, "traceback": "t"}
        if path:
            put(content, path, value)

    def cheat(handed: Handed) -> None:
        handed.edit(change)
        for name in ("curves.jsonl", "samples.parquet"):
            (handed.run() / name).unlink()

    return cheat


def checks_of(change: Callable[[dict[str, Any]], object], times: int = 1) -> Cheat:
    """A verification.json whose check is there several times."""

    def cheat(handed: Handed) -> None:
        check_of(change)(handed)
        path = handed.folder / PPO / "verification.json"
        found = json.loads(path.read_text())["checks"]
        path.write_text(json.dumps({"checks": times * found}))

    return cheat


def padded(content: dict[str, Any]) -> None:
    content["records"] = {f"00{seed}": value for seed, value in content["records"].items()}


def point_of_seed_0(*changed: str) -> Cheat:
    """An earlier evaluation of seed 0 in the curves of seed 1, some of its numbers moved a little."""

    def cheat(handed: Handed) -> None:
        path = handed.run(f"{PPO}/0") / "curves.jsonl"
        other = of_kind([json.loads(line) for line in path.read_text().splitlines()], "validation")

        def change(found: list[dict[str, Any]]) -> None:
            line = of_kind(found, "validation")[1]
            names = ("reward", "kl_to_reference", "mean_length", "truncated_share", "metric/chrf")
            line |= {name: other[1][name] for name in names}
            for name in changed:
                line[name] *= 1 + 1e-3

        lines(change)(handed)

    return cheat


SCRIPT = "<script>alert(1)</script>\"'&"
CHEATS: dict[str, Cheat] = {
    # record.json
    "record.json: schema: another": record("schema", 2),
    "record.json: status: a word": record("status", "excellent"),
    "record.json: task.score_normalization: without width": record(
        "task|score_normalization", {"floor": 1.0, "ceiling": 1.0, "source": "mine"}
    ),
    "record.json: policy: left out": edit(policy_gone),
    "record.json: policy: left out everywhere": edit(policy_gone, EVERYWHERE),
    "record.json: curves: left out": record("curves", None),
    "record.json: samples: left out": record("samples", None),
    "record.json: results: no validation": edit(lambda c: c["results"].pop("validation")),
    "record.json: results: a decoding nobody asked for": edit(
        lambda c: c["results"].update({"test-greedy": c["results"]["test"]})
    ),
    "record.json: error: of a completed run": record("error", {"type": "E", "message": "m"}),
    "record.json: config: a number for a flag": edit(retyped),
    "record.json: config: an unknown setting": edit(lambda c: c["config"].update(bonus=1)),
    "record.json: seed: as text": record("seed", "1"),
    "record.json: id: with a line break": record("id", lambda value: value + "\n"),
    "record.json: task.version: another": everywhere("task|version", 7),
    "record.json: task.digest: another": everywhere("task|digest", "f" * 64),
    "record.json: task.data: trained on the test rows": edit(swapped_data, EVERYWHERE),
    "record.json: task.data: more rows": everywhere("task|data|train|rows", lambda n: n + 1000),
    "record.json: task.data: a split left out": edit(lambda c: c["task"]["data"].pop("test"), EVERYWHERE),
    "record.json: task.metric_signatures: with HTML": everywhere(
        "task|metric_signatures|chrf", "<script>alert(1)</script>"
    ),
    "record.json: task.metric_signatures: another version": everywhere(
        "task|metric_signatures|chrf", "sacrebleu.CHRF|nc:1|version:9"
    ),
    "record.json: task.metric_signatures: a further one": everywhere("task|metric_signatures|mine", "mine|v1"),
    "record.json: task.metric_signatures: left out": everywhere("task|metric_signatures", {}),
    "record.json: task.reward_signature: with HTML": everywhere("task|reward_signature", "<b>best</b>"),
    "record.json: task.reward_signature: another": everywhere("task|reward_signature", "1*[mine|v1]"),
    "record.json: task.reward_signature: left out": everywhere("task|reward_signature", ""),
    "record.json: task.primary_metric: the one that looks best": everywhere("task|primary_metric", "bleu"),
    "record.json: task.held_out_metrics: one of the reward": everywhere("task|held_out_metrics", ["chrf"]),
    "record.json: task.lower_is_better: turned round": everywhere("task|lower_is_better", ["chrf"]),
    "record.json: task.lower_is_better: the held-out one": everywhere("task|lower_is_better", ["bleu"]),
    "record.json: task.neutral_metrics: the primary one": everywhere("task|neutral_metrics", ["chrf"]),
    "record.json: traits.trains: of an algorithm that trains": everywhere("traits|trains", False),
    "record.json: traits.filters_tokens: of one that filters nothing": everywhere(
        "traits|filters_tokens", True
    ),
    "record.json: traits.control: of one that is none": everywhere("traits|control", "policy"),
    "record.json: traits.control: to be without a KL": everywhere("traits|control", "text"),
    "record.json: policy.model: another": everywhere("policy|model", "nano-causal"),
    "record.json: policy.init: another": everywhere("policy|init", "sft"),
    "record.json: policy.revision: one of a folder": everywhere("policy|revision", "main"),
    "record.json: policy.weights_sha256: another": everywhere("policy|weights_sha256", "3" * 64),
    "record.json: policy.tokenizer_sha256: another": everywhere("policy|tokenizer_sha256", "3" * 64),
    "record.json: policy.base_weights_sha256: another": everywhere("policy|base_weights_sha256", "3" * 64),
    "record.json: policy.sft_recipe_sha256: of a base policy": everywhere(
        "policy|sft_recipe_sha256", "3" * 64
    ),
    "record.json: policy.parameters: ten": everywhere("policy|parameters", 10),
    "record.json: policy.parameters: ten billion": everywhere("policy|parameters", 10**10),
    "record.json: policy.kind: another": everywhere("policy|kind", "seq2seq"),
    "record.json: budget.planned_tokens: more": record("budget|planned_tokens", 600),
    "record.json: budget.tokens: negative": record("budget|tokens", -5),
    "record.json: budget.episodes: fewer": record("budget|episodes", 1),
    "record.json: budget.iterations: a fraction": record("budget|iterations", 2.0),
    "record.json: budget.optimizer_steps: none": record("budget|optimizer_steps", 0),
    "record.json: budget: of a row that does not learn": record("budget|tokens", 50, ["toy/start/1"]),
    "record.json: results.n: fewer prompts": edit(fewer_prompts),
    "record.json: results.n: of one metric": record("results|test|metrics|chrf|n", 400),
    "record.json: results.n: of validation": record("results|validation|n", 400),
    "record.json: results.metrics: beyond its bounds": record("results|test|metrics|chrf|value", 250.0),
    "record.json: results.metrics: negative": record("results|validation|metrics|chrf|value", -3.0),
    "record.json: results.metrics: edited": record("results|test|metrics|chrf|value", lambda v: v + 1),
    "record.json: results.metrics.per_sample: turned": record(
        "results|test|metrics|chrf|per_sample", lambda value: not value
    ),
    "record.json: results.reward: edited": record("results|test|reward", lambda value: value + 1e-4),
    "record.json: results.reward_components: edited": edit(
        lambda c: c["results"]["test"]["reward_components"].update(chrf=0.9)
    ),
    "record.json: results.reward_components: left out": record("results|test|reward_components", {}),
    "record.json: results.kl_to_reference: as text": record("results|test|kl_to_reference", "nan"),
    "record.json: results.kl_to_reference: left out": record("results|test|kl_to_reference", None),
    "record.json: results.kl_to_reference: minus 90": record("results|test|kl_to_reference", -90.0),
    "record.json: results.kl_to_reference: of the start itself": record(
        "results|test|kl_to_reference", 5.0, ["toy/start/1"]
    ),
    "record.json: results.mean_length: longer": record("results|test|mean_length", lambda v: v + 1),
    "record.json: results.mean_length: of no completions": record("results|validation|mean_length", 3.3),
    "record.json: results.truncated_share: above 1": record("results|test|truncated_share", 1.5),
    "record.json: results.truncated_share: another": record(
        "results|test|truncated_share", lambda v: 0.5 if v != 0.5 else 0.25
    ),
    "record.json: fidelity.max_logprob_difference: none": record("fidelity|max_logprob_difference", 0.0),
    "record.json: fidelity.max_logprob_difference: negative": record(
        "fidelity|max_logprob_difference", -1.0
    ),
    "record.json: fidelity.first_clip_fraction: half": record("fidelity|first_clip_fraction", 0.5),
    "record.json: fidelity.truncated_share: another": record(
        "fidelity|truncated_share", lambda value: value / 2 + 0.1
    ),
    "record.json: fidelity.flags: taken away": record(
        "fidelity|flags", lambda value: [] if value else ["truncated_share"]
    ),
    "record.json: events: negative": record("events", {"early_eos": -4}),
    "record.json: events: an unknown one": record("events", {"approved_by_reviewers": 3}),
    "record.json: curves.rows: more": record("curves|rows", 400),
    "record.json: samples.rows: more": record("samples|rows", 400),
    "record.json: provenance.package_version: a sentence": record("provenance|package_version", "the best"),
    "record.json: provenance.python: HTML": record("provenance|python", "<b>3</b>"),
    "record.json: provenance.device: a sentence": record("provenance|device", "a big one"),
    "record.json: provenance.packages: with HTML": record("provenance|packages|torch", "<i>2</i>"),
    "record.json: provenance.packages: none": record("provenance|packages", {}),
    "record.json: provenance.threads: none": record("provenance|threads", 0),
    "record.json: provenance.command: an escape": record("provenance|command", "lmrl-bench \u001b[2J bench"),
    "record.json: provenance.platform: turned round": record("provenance|platform", "Linux \u202e x"),
    "record.json: provenance.commit: a command": record("provenance|commit", "main; curl x | sh"),
    "record.json: time.wall_s: negative": record("time|wall_s", -1),
    "record.json: time.wall_s: shorter than its parts": record("time|wall_s", 0.0, ROW),
    "record.json: time.started: the year 2999": edit(
        lambda c: c["time"].update(started="2999-01-01T00:00:00+00:00", finished="2999-01-01T00:01:00+00:00")
    ),
    "record.json: time.started: the year 1970": record("time|started", "1970-01-01T00:00:00+00:00"),
    "record.json: time.finished: before it began": record("time|finished", "2025-01-02T00:00:00+00:00"),
    "record.json: time.train_s: none": record("time|train_s", 0.0),
    "record.json: time.generate_s: of a row that does not learn": record(
        "time|generate_s", 1e-9, ["toy/start/1"]
    ),
    "record.json: time.cpu_s: negative": record("time|cpu_s", -2.0),
    "record.json: time.peak_memory_mb: as text": record("time|peak_memory_mb", "5"),
    "record.json: provenance.command: of 100,000 characters": record("provenance|command", "x" * 100_000),
    "record.json: provenance.platform: a script": record("provenance|platform", SCRIPT),
    "record.json: time.started: not as the run writes it": record("time|started", "20260102T030405+0000"),
    "record.json: time.started: an impossible offset": edit(
        lambda c: c["time"].update(started="2026-01-02T03:04:05+23:59", finished="2026-01-02T03:05:05+23:59")
    ),
    "record.json: time.finished: a week": record("time|finished", "2026-W01-1T00:00:00+00:00"),
    "record.json: error.type: a script": failed("error|type", SCRIPT),
    "record.json: error.message: an escape": failed("error|message", "\u001b[2J"),
    "record.json: error.message: of a million characters": failed("error|message", "x" * 1_000_000),
    "record.json: error.traceback: turned round": failed("error|traceback", "a \u202e b"),
    "record.json: provenance.packages: a script, of a failed run": failed("provenance|packages|torch", SCRIPT),
    "record.json: provenance.device: a script, of a failed run": failed("provenance|device", SCRIPT),
    "record.json: task.metric_signatures: a script, of a failed run": failed(
        "task|metric_signatures", {"chrf": SCRIPT}
    ),
    "record.json: task.primary_metric: a script, of a failed run": failed("task|primary_metric", SCRIPT),
    "record.json: events.*: a billion prompts": record("events", {"prompts_truncated": 10**9}),
    "record.json: events.*: a billion references": record("events", {"references_truncated": 10**9}),
    "record.json: events.*: a billion ends": record("events", {"early_eos": 10**9}),
    "record.json: events.*: a billion tokens": record("events", {"control_tokens": 10**9}),
    "record.json: events.*: a billion sittings": record("events", {"provenance_changed": 10**9}),
    "record.json: results.test.kl_to_reference: beyond single precision": record(
        "results|test|kl_to_reference", 1e9
    ),
    # curves.jsonl
    "curves.jsonl: update/*: a script as a name": training(f"update/{SCRIPT}", 1.0),
    "curves.jsonl: rollout/*: a name with a line break": training("rollout/a\u00a0b c", 1.0),
    "curves.jsonl: kl_to_reference: beyond single precision": point("kl_to_reference", 1e9, at=1),
    "curves.jsonl: metric/*: an evaluation of another seed": point_of_seed_0(),
    "curves.jsonl: metric/*: of another seed, one number moved": point_of_seed_0("reward"),
    "curves.jsonl: tokens: ten million": lines(later_tokens),
    "curves.jsonl: tokens: more in an iteration than its completions hold": training(
        "tokens", lambda n: n + 500, at=0
    ),
    "curves.jsonl: tokens: fewer than before": training("tokens", 1, at=1),
    "curves.jsonl: tokens: as text": training("tokens", "33", at=0),
    "curves.jsonl: episodes: more": training("episodes", lambda n: n + 40),
    "curves.jsonl: iteration: one left out": lines(longer_training),
    "curves.jsonl: optimizer_steps: more": training("optimizer_steps", lambda n: n + 5),
    "curves.jsonl: optimizer_steps: more in one update": training("update/optimizer_steps", 9),
    "curves.jsonl: progress: another": training("progress", 0.9, at=0),
    "curves.jsonl: train: no line": lines(no_training),
    "curves.jsonl: train: an unknown field": training("rating", 5.0),
    "curves.jsonl: train: a field left out": lines(
        lambda found: of_kind(found, "train")[-1].pop("rollout/score")
    ),
    "curves.jsonl: rollout/length: another": training("rollout/length", lambda n: n + 0.25, at=0),
    "curves.jsonl: rollout/truncated_share: another": training("rollout/truncated_share", 0.3, at=0),
    "curves.jsonl: rollout/kl_charged: another": training("rollout/kl_charged", 0.7),
    "curves.jsonl: rollout/entropy: negative": training("rollout/entropy", -1.0),
    "curves.jsonl: update/gradient_norm: negative": training("update/gradient_norm", -1.0),
    "curves.jsonl: update/clip_fraction: above 1": training("update/clip_fraction", 1.5),
    "curves.jsonl: update/max_logprob_difference: negative": training("update/max_logprob_difference", -1.0, at=0),
    "curves.jsonl: validation: one left out": lines(without_evaluation),
    "curves.jsonl: validation: one twice": lines(twice_evaluated),
    "curves.jsonl: validation.tokens: another": point("tokens", 7, at=0),
    "curves.jsonl: validation.metric: beyond its bounds": point("metric/chrf", 180.0),
    "curves.jsonl: validation.metric: a further one": point("metric/mine", 1.0, at=0),
    "curves.jsonl: validation.kl_to_reference: left out": point("kl_to_reference", None, at=0),
    "curves.jsonl: validation.kl_to_reference: before training": point("kl_to_reference", 4.0, at=0),
    "curves.jsonl: validation.kl_to_reference: minus 90": point("kl_to_reference", -90.0),
    "curves.jsonl: validation.mean_length: longer than allowed": point("mean_length", 500.0),
    "curves.jsonl: validation.truncated_share: of no completions": point("truncated_share", 0.3),
    "curves.jsonl: reward: another than the record's": lambda handed: handed.edit_curves(
        lambda found: of_kind(found, "validation")[-1].update(reward=0.99)
    ),
    "curves.jsonl: seeds: a near copy": near_copy(a_little),
    "curves.jsonl: seeds: every number moved a little": near_copy(every_number_a_little),
    # samples.parquet
    "samples.parquet: seeds: answers of another seed": near_copy(other_curves),
    "samples.parquet: completion: another text": answers(lambda row: row.update(completion="the best of all answers")),
    "samples.parquet: completion_ids: 2,000 of 8": answers(lambda row: row.update(completion_ids=[5] * 2000)),
    "samples.parquet: completion_ids: none": answers(lambda row: row.update(completion_ids=[])),
    "samples.parquet: completion_ids: unknown to the tokenizer": answers(
        lambda row: row["completion_ids"].__setitem__(0, 30_000)
    ),
    "samples.parquet: completion_ids: negative": answers(lambda row: row["completion_ids"].__setitem__(0, -1)),
    "samples.parquet: completion_ids: the end in the middle": answers(
        lambda row: row["completion_ids"].__setitem__(0, 1)
    ),
    "samples.parquet: terminated: turned": answers(lambda row: row.update(terminated=not row["terminated"])),
    "samples.parquet: seed_index: the best of many": answers(lambda row: row.update(seed_index=3)),
    "samples.parquet: reward: more than its parts": answers(lambda row: row.update(reward=0.9)),
    "samples.parquet: reward: its parts too": answers(
        lambda row: row.update({"reward": 0.9, "reward/chrf": 0.9})
    ),
    "samples.parquet: metric: beyond its bounds": answers(lambda row: row.update({"metric/chrf": 500.0})),
    "samples.parquet: metric: an unknown one": answers(lambda row: row.update({"metric/mine": 1.0})),
    "samples.parquet: info: of an unknown metric": answers(lambda row: row.update(info={"metric/mine/x": 1})),
    "samples.parquet: prompt_sha256: another": answers(lambda row: row.update(sample_id="test-3")),
    # verification.json
    "verification.json: date: the year 2999": check_of(lambda c: c.update(date="2999-01-01")),
    "verification.json: by: with HTML and a line break": check_of(lambda c: c.update(by="<b>me</b>\n")),
    "verification.json: level: as text": check_of(lambda c: c.update(level="1")),
    "verification.json: date: with a time": check_of(lambda c: c.update(date="2026-01-02T00:00:00")),
    "verification.json: records: padded seeds": check_of(padded),
    "verification.json: records: one check 300 times": checks_of(lambda c: None, 300),
    "verification.json: records: no digests": check_of(lambda c: c.update(records={"0": "yes"})),
}  # fmt: skip

BELIEVED: dict[str, Cheat] = {
    "record.json: time.wall_s: a hundred times as long": record("time|wall_s", lambda value: 100 * value),
    "record.json: time.cpu_s: none": record("time|cpu_s", 0.0),
    "record.json: time.peak_memory_mb: one": record("time|peak_memory_mb", 1.0),
    "record.json: provenance.platform: another": record("provenance|platform", "Plan 9"),
    "record.json: provenance.packages: other versions": record("provenance|packages|torch", "1.0.0"),
    "record.json: error.message: any text": failed("error|message", f"{SCRIPT}\n\tnext line"),
    "record.json: events: fewer": record("events", {}),
    "curves.jsonl: update/gradient_norm: another": training("update/gradient_norm", 0.123, at=0),
    "curves.jsonl: validation.metric: better, at the first evaluation": point("metric/chrf", 50.0, at=0),
    "record.json: results.kl_to_reference: smaller": record("results|test|kl_to_reference", lambda value: value / 2),
}  # fmt: skip
"""Accepted: nothing here contradicts them. Only training again does (`results retrain`)."""
