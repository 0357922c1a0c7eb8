"""Bad input: one clear message that names the place and the remedy, exit code 2, nothing half-written."""

from __future__ import annotations

import gzip
import json

import pytest
from fixtures.runs import call
from fixtures.toy import tiny_causal, toy_tokenizer

from lmrl_bench.records.store import read_record


def rewrite(path, change):
    """Applies `change` to the list of lines of a file."""
    lines = path.read_text().splitlines()
    change(lines)
    path.write_text("".join(f"{line}\n" for line in lines))


def data(world, split="train"):
    return world.folder / "data" / f"{split}.jsonl"


def missing_file(world):
    data(world, "test").unlink()
    return ["data/test.jsonl: no such file", "task.yaml", "restore it"]


def corrupt_gzip(world):
    packed = gzip.compress(data(world).read_bytes())
    (world.folder / "data" / "train.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    world.edit_task(data={"train": {"path": "data/train.jsonl.gz"}})
    return ["train.jsonl.gz: corrupt gzip", "restore the file"]


def corrupt_json(world):
    rewrite(data(world, "validation"), lambda lines: lines.__setitem__(2, '{"prompt": "a"'))
    return ["validation.jsonl:3: not JSON", "one object per line"]


def wrong_sha256(world):
    world.edit_task(data={"train": {"path": "data/train.jsonl", "sha256": "0" * 64}})
    return ["data/train.jsonl: sha256 is", "expected 0000", "data.train.sha256", "restore it"]


def empty_reference(world):
    row = json.dumps({"prompt": "a", "references": [" "]})
    rewrite(data(world, "test"), lambda lines: lines.__setitem__(1, row))
    return ["test.jsonl:2", "reference that is empty", "complete or remove the row"]


def long_prompts(world):
    world.edit_task(prompt={"max_tokens": 2})
    return ["prompt of sample 'train-", "limit of 2", "prompt.max_tokens in task.yaml", "truncate"]


def one_long_test_prompt(world):
    row = json.dumps({"prompt": "bad " * 20, "references": ["a"]})
    rewrite(data(world, "test"), lambda lines: lines.__setitem__(3, row))
    return ["prompt of sample 'test-3'", "limit of 16", "prompt.truncate: left | right"]


def no_eos(world):
    tokenizer = toy_tokenizer()
    tokenizer.eos_token = None
    tokenizer.save_pretrained(world.model)
    return [str(world.model), "has no EOS token", "set `eos_token` in its tokenizer_config.json"]


def narrow_model(world):
    tiny_causal("gpt2", vocabulary=40).save_pretrained(world.model)
    return [
        str(world.model),
        "has 45 tokens, but the model has only 40 outputs",
        "use the tokenizer",
    ]


def wrong_kind(world):
    world.edit_task(policy={"kinds": ["seq2seq"]})
    return ["task 'toy'", "causal", "seq2seq"]


def few_positions(world):
    world.edit_task(prompt={"max_tokens": 150})
    return ["has 128 positions", "need 158", "prompt.max_tokens"]


def not_a_model(world):
    (world.model / "config.json").unlink()
    return [str(world.model), "config.json"]


def damaged_weights(world):
    (world.model / "model.safetensors").write_bytes(b"damaged")
    return [str(world.model), "cannot be read"]


def unknown_metric(world):
    world.edit_task(metrics={"primary": {"name": "chrff"}})
    return ["toy/task.yaml: metrics: unknown metric 'chrff'", "did you mean 'chrf'?"]


def unknown_reward(world):
    world.edit_task(reward={"terms": [{"name": "chrff"}]})
    return ["toy/task.yaml: reward: unknown reward or metric 'chrff'", "did you mean 'chrf'?"]


BROKEN = [
    missing_file, corrupt_gzip, corrupt_json, wrong_sha256, empty_reference, long_prompts,
    one_long_test_prompt, no_eos, narrow_model, wrong_kind, few_positions, not_a_model,
    damaged_weights, unknown_metric, unknown_reward,
]  # fmt: skip


def assert_refused(called, *parts):
    assert called.code == 2, called
    notes = ("settings: ", "[")  # which settings apply, and what a start would cost
    said = [line for line in called.err.splitlines() if not line.startswith(notes)]
    assert said[0].startswith("error: ")
    assert sum(line.startswith("error: ") for line in said) == 1
    for part in parts:
        assert part in called.err
    assert "Traceback" not in called.err
    assert called.out == ""


@pytest.mark.parametrize("broken", BROKEN, ids=lambda function: function.__name__)
def test_a_broken_task_or_policy(broken, world, capsys):
    parts = broken(world)
    assert_refused(call(capsys, "run", world.run_file()), *parts)
    assert not (world.root / "out").exists()


def test_a_broken_policy_is_refused_before_its_sft_start_is_trained(world, capsys):
    parts = narrow_model(world)
    run = world.run_file(policy={"init": "sft"})
    assert_refused(call(capsys, "run", run), *parts)
    assert not list(world.root.rglob("record.json"))


def test_an_unwritable_results_folder(world, capsys):
    """Before an SFT policy is trained; the folder is a file, which stops even root."""
    (world.root / "out").write_text("a file")
    run = world.run_file(policy={"init": "sft"}, output="out/deep")
    refused = call(capsys, "run", run)
    assert_refused(refused, "out/deep: results cannot be written here", "choose another with --out")
    assert not (world.root / "cache").exists()


@pytest.mark.parametrize("device", ["tpu", "cuda:99"])
def test_a_device_that_is_not_there(world, capsys, device):
    """Before an SFT policy is trained."""
    run = world.run_file(policy={"init": "sft"})
    refused = call(capsys, "run", run, "--set", f"runtime.device={device}")
    assert_refused(refused, f"runtime.device: '{device}' cannot be used here")
    assert not list(world.root.rglob("record.json"))


def test_a_folder_for_tasks_that_cannot_be_made(world, capsys):
    (world.root / "file").write_text("a file")
    refused = call(capsys, "task", "new", "mine", "--out", world.root / "file" / "tasks")
    assert_refused(refused, "file/tasks: cannot be created", "choose another with --out")


def test_a_refused_run_removes_no_folder_that_was_there(world, capsys):
    missing_file(world)
    (world.root / "out").mkdir()
    assert call(capsys, "run", world.run_file(output="out/deep/er")).code == 2
    assert not any((world.root / "out").iterdir())


def test_an_unwritable_results_folder_of_a_leaderboard(world, capsys):
    (world.root / "results").write_text("a file")
    refused = call(capsys, "leaderboard", "run", "quickstart")
    assert_refused(
        refused, "results: results cannot be written here", "choose another with --results"
    )
    assert not (world.root / "leaderboards").exists()


def test_a_leaderboard_does_not_run_under_another_configuration(world, capsys):
    refused = call(capsys, "leaderboard", "run", "quickstart", "--set", "policy.init=base")
    assert_refused(refused, "--set policy.init=base", "only runtime.* may be set")
    assert not (world.root / "results").exists()


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["run", "--task", "toyy", "--algorithm", "ppo"], ["'toyy'", "did you mean 'toy'?"]),
        (["run", "--task", "./nowhere", "--algorithm", "ppo"], ["nowhere", "lmrl-bench task new"]),
        (["run", "--algorithm", "ppo"], ["no task named", "--task NAME", "lmrl-bench task list"]),
        (["run", "--task", "toy"], ["names no algorithm", "--algorithm ppo"]),
        (["run", "--task", "toy", "--algorithm", "pppo"], ["'pppo'", "did you mean 'ppo'?"]),
        (["run", "--task", "toy", "--algorithm", "ppo", "--policy", "nano-causl", "--set",
          "policy.init=base"], ["no model 'nano-causl'", "did you mean 'nano-causal'?"]),
        (["run", "nowhere.yaml"], ["nowhere.yaml: cannot be read"]),
        (["run", "toy"], ["toy: there is no such YAML file", "lmrl-bench run --task toy"]),
        (["run", "--task", "toy", "--algorithm", "PPO"], ["did you mean 'ppo'?"]),
        (["run", "--task", "toy", "--algorithm", "ppo", "--set", "tokens=3"],
         ["--set tokens: unknown key", "did you mean 'budget.tokens'?"]),
        (["run", "--task", "toy", "--algorithm", "ppo", "--set", "kl.coefficient=3"],
         ["did you mean 'algorithm.kl.coefficient'?"]),
        (["results", "validate", "nowhere"], ["nowhere: there is no such folder of results"]),
        (["results", "validate", "tasks"], ["'tasks'", "name the leaderboard with --leaderboard"]),
        (["algorithm", "show", "nlpp"], ["unknown algorithm 'nlpp'", "did you mean 'nlpo'?"]),
        (["task", "show", "toyy"], ["unknown task 'toyy'", "did you mean 'toy'?"]),
        (["task", "lint", "toyy"], ["unknown task 'toyy'", "did you mean 'toy'?"]),
        (["leaderboard", "build", "quickstrt"], ["'quickstrt'", "did you mean 'quickstart'?"]),
        (["leaderboard", "run", "quickstrt"], ["unknown leaderboard 'quickstrt'", "did you mean 'quickstart'?"]),
        (["download", "install", "minilmm"], ["minilmm", "did you mean"]),
    ],
)  # fmt: skip
def test_unknown_names(arguments, parts, world, capsys):
    assert_refused(call(capsys, *arguments), *parts)
    assert not (world.root / "results").exists()


def test_problems_of_a_run_file_stand_together_with_their_lines(world, capsys):
    (world.root / "bad.yaml").write_text(
        "task: toy\n"
        "algorithm:\n"
        "  name: ppo\n"
        "  epoch: 3\n"
        "budget:\n"
        "  tokens: many\n"
        "evaluation: {evry: 2}\n"
        "policy: {init: sftt}\n"
    )
    refused = call(capsys, "run", "bad.yaml", "--out", world.root / "out")
    assert_refused(
        refused,
        "bad.yaml:4: algorithm.epoch: unknown key",
        "did you mean 'epochs'?",
        "bad.yaml:6: budget.tokens: expected a whole number, got 'many'",
        "bad.yaml:7: evaluation.evry: unknown key",
        "did you mean 'every'?",
        "bad.yaml:8: policy.init: unknown value 'sftt'",
        "did you mean 'sft'?",
    )
    assert len(refused.err.splitlines()) == 4
    assert not (world.root / "out").exists()


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("task: toy\nalgorithm: {name: pppo}\n", "bad.yaml:2: unknown algorithm 'pppo'"),
        ("algorithm: {name: ppo}\ntask: toyy\n", "bad.yaml:2: unknown task 'toyy'"),
        ("task: toy\nalgorithm: {name: ppo\n", "bad.yaml:"),
        ("task: toy\ntask: toy\n", "bad.yaml:2"),
    ],
)
def test_names_and_syntax_of_a_run_file_have_their_lines(content, part, world, capsys):
    (world.root / "bad.yaml").write_text(content)
    assert_refused(call(capsys, "run", "bad.yaml"), part)


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("budget.tokens", ["--set budget.tokens: write key=value"]),
        ("budget.tokenz=3", ["--set budget.tokenz", "unknown key", "did you mean 'tokens'?"]),
        ("budget.tokens=abc", ["--set budget.tokens", "expected a whole number, got 'abc'"]),
        ("algorithm.gamma=2", ["--set algorithm.gamma", "at most 1"]),
        ("algorithm.group_size=3", ["group_size (3) must divide"]),
        ("seed=-1", ["--set seed", "at least 0"]),
    ],
)
def test_bad_overrides(override, parts, world, capsys):
    refused = call(capsys, "run", world.run_file(), "--set", override)
    assert_refused(refused, *parts)
    assert not (world.root / "out").exists()


@pytest.mark.parametrize(
    ("name", "expression", "shown"),
    [
        ("all-nan", "np.full(len(batch), np.nan)", "is nan for sample 'validation-0'"),
        # Good while the validation split is scored, infinite on a training sample.
        ("one-infinite", "[np.inf if s.id == 'train-3' else 0.0 for s in batch.samples]",
         "is inf for sample 'train-3'"),
    ],
)  # fmt: skip
def test_a_reward_that_is_not_finite_is_a_diverged_record(name, expression, shown, world, capsys):
    world.add_reward(name, expression)
    called = call(capsys, "run", world.run_file(), "--set", "budget.tokens=400")
    assert called.code == 1
    assert f"reward '{name}' {shown}" in called.err
    assert "Traceback" not in called.err
    record = read_record(world.root / "out")
    assert record.status == "diverged"
    assert record.error.type == "RewardNotFiniteError"
    assert shown in record.error.message


def test_a_metric_that_is_not_finite_is_a_failed_record(world, capsys):
    world.add_reward("planted-a", "np.zeros(len(batch))")
    plugin = world.folder / "plugin.py"
    plugin.write_text(
        plugin.read_text()
        + "from lmrl_bench.metrics.base import Metric, MetricResult\n"
        + "class Bad(Metric):\n"
        + "    name, bounds, signature = 'not-finite', (0.0, 1.0), 'v1'\n"
        + "    def score(self, completions, samples):\n"
        + "        return MetricResult(float('nan'))\n"
        + "METRICS = {'not-finite': Bad}\n"
    )
    world.edit_task(metrics={"held_out": [{"name": "not-finite"}]})
    called = call(capsys, "run", world.run_file())
    assert called.code == 1
    assert "metric 'not-finite' is nan on 4 completions" in called.err
    assert read_record(world.root / "out").status == "failed"
