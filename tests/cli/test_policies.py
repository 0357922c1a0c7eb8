"""`lmrl-bench policy`: what a run trained can be exported, sampled from and evaluated."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from fixtures.runs import call
from transformers import AutoModelForCausalLM, AutoTokenizer

from lmrl_bench import run
from lmrl_bench.core.errors import PolicyError
from lmrl_bench.records.store import read_record
from lmrl_bench.runs import policies

IDS = torch.tensor([[3, 4, 5, 6]])


@pytest.fixture
def trained(world):
    """A finished run that kept its policy, and its record."""
    given = world.given(
        budget={"tokens": 120}, runtime={"output": str(world.root / "out"), "keep_policy": True}
    )
    return world.root / "out", run("toy", "ppo", config=given)


@pytest.fixture
def adapted(world):
    pytest.importorskip("peft")
    policy = {"init": "base", "adapter": {"rank": 2, "alpha": 4}}
    runtime = {"output": str(world.root / "lora"), "keep_policy": True}
    run("toy", "ppo", config=world.given(policy=policy, budget={"tokens": 240}, runtime=runtime))
    return world.root / "lora"


def test_an_exported_policy_is_an_ordinary_folder(world, trained, capsys):
    folder, _ = trained
    done = call(capsys, "policy", "export", folder, "--out", world.root / "mine")
    assert done.code == 0, done.err
    files = {file.name for file in (world.root / "mine").iterdir()}
    assert files >= {"config.json", "model.safetensors", "tokenizer.json"}
    assert "value_head.safetensors" not in files
    modes = [file.stat().st_mode & 0o444 for file in (world.root / "mine").iterdir()]
    assert set(modes) == {0o444}  # others on the machine can read it
    exported = AutoModelForCausalLM.from_pretrained(world.root / "mine")
    kept = AutoModelForCausalLM.from_pretrained(folder / "policy")
    assert torch.equal(exported(IDS).logits, kept(IDS).logits)
    assert AutoTokenizer.from_pretrained(world.root / "mine").eos_token_id is not None
    again = call(capsys, "policy", "export", folder, "--out", world.root / "mine")
    assert again.code == 2
    assert "not empty" in again.err
    merge = call(capsys, "policy", "export", folder, "--out", world.root / "x", "--merge-adapter")
    assert (merge.code, "no adapter to merge" in merge.err) == (2, True)
    assert not (world.root / "x").exists()


def test_an_adapter_is_exported_merged_or_refused(world, adapted, capsys):
    """The adapter alone names a folder of this machine: nobody else could load it."""
    alone = call(capsys, "policy", "export", adapted, "--out", world.root / "alone")
    assert (alone.code, "--merge-adapter" in alone.err) == (2, True)
    assert not (world.root / "alone").exists()
    done = call(
        capsys, "policy", "export", adapted, "--out", world.root / "whole", "--merge-adapter"
    )
    assert done.code == 0, done.err
    assert not (world.root / "whole" / "adapter_config.json").exists()
    from peft import PeftModel

    base = AutoModelForCausalLM.from_pretrained(world.model)
    wanted = PeftModel.from_pretrained(base, adapted / "policy")(IDS).logits
    merged = AutoModelForCausalLM.from_pretrained(world.root / "whole")(IDS).logits
    untrained = AutoModelForCausalLM.from_pretrained(world.model)(IDS).logits
    torch.testing.assert_close(merged, wanted, atol=1e-5, rtol=1e-5)
    assert (merged - untrained).abs().max() > 1e-4


def test_an_adapter_of_a_hub_model_is_exported_as_it_loads_elsewhere(world, adapted):
    """Without the config.json next to which the library looks for whole weights."""
    file = adapted / "policy" / "adapter_config.json"
    file.write_text(
        json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": "some/model"})
    )
    policies.export_policy(adapted, world.root / "out2")
    files = {path.name for path in (world.root / "out2").iterdir()}
    assert files >= {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json"}
    assert not files & {"config.json", "value_head.safetensors"}


@pytest.mark.parametrize("kind", ["trained", "adapted"])
def test_evaluating_a_runs_policy_gives_the_numbers_of_its_record(request, capsys, kind):
    place = request.getfixturevalue(kind)
    folder = place[0] if kind == "trained" else place
    record = read_record(folder)
    found = call(capsys, "policy", "evaluate", folder, "--json")
    assert found.code == 0, found.err
    wanted = record.results["test"].model_dump(mode="json")
    assert found.json["test"]["kl_to_reference"] == pytest.approx(
        wanted.pop("kl_to_reference"), abs=1e-5
    )
    assert found.json["test"] | wanted == found.json["test"]
    assert set(found.json) == {"test"}  # the run had no greedy decoding
    shown = call(capsys, "policy", "evaluate", folder)
    assert f"reward {wanted['reward']:.4f}  KL" in shown.out
    assert read_record(folder) == record


def test_evaluating_any_policy_writes_a_record_only_when_it_is_asked(world, capsys):
    place = ["policy", "evaluate", world.model, "--task", "toy", "--samples", "4"]
    shown = call(capsys, *place)
    assert shown.code == 0, shown.err
    assert "reward" in shown.out
    assert "KL" not in shown.out  # there is no start to compare with
    assert not (world.root / "e").exists()
    written = call(capsys, *place, "--out", world.root / "e")
    assert written.code == 0, written.err
    assert read_record(world.root / "e").results["test"].n == 4
    warm = call(capsys, *place, "--temperature", "0.3", "--json")
    assert (
        warm.json["test"]["mean_length"]
        != call(capsys, *place, "--json").json["test"]["mean_length"]
    )


def test_sampling_shows_prompts_completions_and_references(world, trained, capsys):
    folder, _ = trained
    shown = call(capsys, "policy", "sample", folder)
    assert shown.code == 0, shown.err
    assert [shown.out.count(word) for word in ("prompt:", "completion:", "reference:")] == [3, 3, 3]
    rows = call(capsys, "policy", "sample", folder, "-n", 2, "--json").json
    test = world.task.samples("test")
    assert [row["prompt"] for row in rows] == [test[0].prompt, test[1].prompt]
    own = ["policy", "sample", folder, "--prompt", "the cab:", "--json"]
    greedy = [row["completion"] for row in call(capsys, *own, "--greedy").json]
    assert greedy == [greedy[0]] * 3
    once = call(capsys, *own[:-1], "--greedy")
    assert (once.out.count("completion:"), once.err) == (1, "3 completions, of which 1 different\n")
    model = AutoModelForCausalLM.from_pretrained(folder / "policy").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder / "policy")
    ids = tokenizer("the cab:", return_tensors="pt", add_special_tokens=False).input_ids
    most = world.task.spec.completion.max_tokens
    wanted = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=most, do_sample=False
    )
    assert greedy[0] == tokenizer.decode(wanted[0, ids.shape[1] :], skip_special_tokens=True)
    drawn = [call(capsys, *own, "--seed", seed).json for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_what_is_not_a_policy_is_refused(world, capsys):
    run("toy", "ppo", config=world.given("plain"))
    (world.root / "empty").mkdir()
    for words, reason in (
        (["export", world.root / "plain", "--out", world.root / "x"], "--keep-policy"),
        (["sample", world.root / "empty", "--task", "toy"], "neither a policy"),
        (
            ["evaluate", world.model],
            "a policy and not the folder of a run, so name a task with --task",
        ),
        (
            ["evaluate", "nope"],
            f"no model 'nope' (no folder {Path.cwd() / 'nope'}, and not a hub id)",
        ),
        (["sample", "nano-cousal", "--task", "toy"], "did you mean 'nano-causal'"),
    ):
        refused = call(capsys, "policy", *words)
        assert (refused.code, reason in refused.err) == (2, True), refused.err
    with pytest.raises(PolicyError, match="kept no policy"):
        policies.sample(world.root / "plain")


def test_run_keeps_the_policy_on_request_and_says_where(world, capsys):
    file = world.run_file()
    first = call(capsys, "run", file)
    assert "policy:" not in first.out
    late = call(capsys, "run", file, "--keep-policy")
    assert "add --rerun all" in late.err
    kept = call(capsys, "run", file, "--keep-policy", "--rerun", "all")
    assert kept.code == 0
    assert f"policy: {world.root / 'out' / 'policy'}" in kept.out
    assert (world.root / "out" / "policy" / "config.json").exists()
    answers = [line for line in kept.out.splitlines() if line.startswith("completion ")]
    prompts = [sample.prompt for sample in world.task.samples("test")[:2]]
    assert [f'to: "{prompt}"' in line for prompt, line in zip(prompts, answers, strict=True)] == [
        True,
        True,
    ]
