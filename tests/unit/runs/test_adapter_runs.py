"""Runs that train an adapter: they resume bit for bit, keep an adapter folder, and are runs of their own."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import torch
import yaml
from fixtures.runs import sft_folder, trained_policy
from fixtures.toy import tiny_seq2seq, toy_tokenizer
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from lmrl_bench import run
from lmrl_bench.config.run import AdapterConfig, PolicyConfig
from lmrl_bench.core.errors import RecordError
from lmrl_bench.records.store import read_record

pytest.importorskip("peft")

POLICY = {"init": "base", "adapter": {"rank": 2, "alpha": 4}}


@pytest.fixture(params=["gpt2", "t5"])
def adapted(request, world):
    if request.param == "t5":
        place = world.root / "t5"
        tiny_seq2seq("t5").save_pretrained(place)
        toy_tokenizer().save_pretrained(place)
        world.edit_task(policy={"default": str(place), "kinds": ["seq2seq"]})
    return world


def given(world, output, **changes):
    runtime = {"output": str(world.root / output), "keep_policy": True, "checkpoint_every": 2}
    return world.given(output, policy=POLICY, budget={"tokens": 240}, runtime=runtime, **changes)


@pytest.mark.parametrize("name", ["ppo", "nlpo"])
def test_a_run_with_an_adapter_learns_and_resumes(adapted, name):
    settings = {**adapted.given()["algorithm"], "name": name}

    def stop(event):
        if event.kind == "iteration":
            signal.raise_signal(signal.SIGTERM)

    whole = run("toy", name, config=given(adapted, "whole", algorithm=settings))
    assert whole.status == "completed"
    assert whole.config["policy"]["adapter"]["rank"] == 2
    assert abs(whole.results["test"].kl_to_reference) > 1e-3
    assert whole.fidelity.max_logprob_difference < 1e-4
    half = run("toy", name, config=given(adapted, "half", algorithm=settings), progress=stop)
    assert half.status == "interrupted"
    resumed = run("toy", name, config=given(adapted, "half", algorithm=settings))
    assert resumed.digest() == whole.digest()
    kept = adapted.root / "half" / "policy"
    assert (kept / "adapter_model.safetensors").exists()
    assert not (kept / "model.safetensors").exists()
    kind = (
        AutoModelForSeq2SeqLM
        if "seq2seq" in adapted.task.spec.policy.kinds
        else AutoModelForCausalLM
    )
    loaded = kind.from_pretrained(kept)  # base model and adapter, as the library reads the folder
    assert any("lora" in key for key, _ in loaded.named_parameters())
    plain = given(adapted, "half", algorithm=settings) | {"policy": {"init": "base"}}
    with pytest.raises(
        RecordError, match=r"policy\.adapter\.kind is 'lora' in the record, 'absent'"
    ):
        run("toy", name, config=plain)


def test_an_untrained_adapter_is_the_start_and_its_folder_can_be_one(adapted):
    """The kept folder is a policy like any other: it can be the base of the next run."""
    nothing = run(
        "toy",
        "no-training",
        config=given(adapted, "no-training", algorithm={"name": "no-training"}),
    )
    assert nothing.results["test"].kl_to_reference == pytest.approx(0.0, abs=1e-5)
    first = run("toy", "ppo", config=given(adapted, "first"))
    policy = {"init": "base", "model": str(adapted.root / "first" / "policy")}
    again = run(
        "toy",
        "no-training",
        config=adapted.given("again", policy=policy, algorithm={"name": "no-training"}),
    )
    assert again.status == "completed"
    assert again.policy.weights_sha256 != first.policy.weights_sha256
    assert again.results["test"].mean_length == first.results["test"].mean_length
    assert read_record(adapted.root / "again").policy.model == "policy"
    config = yaml.safe_load((adapted.root / "first" / "config.yaml").read_text())
    assert config["policy"]["adapter"] == {"kind": "lora", "rank": 2, "alpha": 4, "targets": None}


def test_the_sft_start_learns_with_the_same_adapter(adapted):
    """`policy.adapter` is not ignored by the start: it trains an adapter too, merged into a start of its own."""
    (adapted.folder / "algorithms").mkdir()
    (adapted.folder / "algorithms" / "sft.yaml").write_text(
        "algorithm: {epochs: 1, batch_size: 6}\n"
        "evaluation: {validation_samples: 2, test_samples: 2, greedy: false}\n"
    )
    plain, adapter = PolicyConfig(), PolicyConfig(adapter=AdapterConfig(rank=2, alpha=4))
    assert sft_folder(adapted.task, plain) != sft_folder(adapted.task, adapter)
    events = []
    start = trained_policy(adapted.task, adapter, events.append)
    assert any("with a LoRA adapter of rank 2" in event.text for event in events)
    record = read_record(Path(start.location).parent)
    assert record.config["policy"]["adapter"]["rank"] == 2
    folder = Path(start.location)
    assert (folder / "model.safetensors").exists()
    assert not (folder / "adapter_config.json").exists()
    kind = (
        AutoModelForSeq2SeqLM
        if "seq2seq" in adapted.task.spec.policy.kinds
        else AutoModelForCausalLM
    )
    base = kind.from_pretrained(adapted.task.spec.policy.default).state_dict()
    learned = kind.from_pretrained(folder).state_dict()
    changed = {name for name in base if not torch.equal(base[name], learned[name])}
    assert changed
    assert not {name for name in changed if "embed" in name or "wte" in name or "norm" in name}
    policy = {"init": "sft", "adapter": {"rank": 2, "alpha": 4}}
    again = run(
        "toy", "no-training", config=adapted.given(policy=policy, algorithm={"name": "no-training"})
    )
    assert again.status == "completed"
    assert again.policy.weights_sha256 == start.digests.weights
    assert again.results["test"].kl_to_reference == pytest.approx(0.0, abs=1e-5)
