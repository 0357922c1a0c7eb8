"""LoRA through PEFT: a new adapter is the base model, only it learns, the reference is the model without it."""

from __future__ import annotations

import json

import pytest
import torch
from fixtures.policies import FAMILIES, generate, ragged_prompts, tiny_model
from fixtures.toy import toy_tokenizer

from lmrl_bench.config.run import AdapterConfig, PolicyConfig, RunConfig
from lmrl_bench.core.errors import PolicyError
from lmrl_bench.data.episodes import TokenBatch
from lmrl_bench.models import adapters as module
from lmrl_bench.models.fingerprints import model_digests
from lmrl_bench.policies.policy import LanguageModelPolicy

LORA = AdapterConfig(rank=4, alpha=8)


@pytest.fixture
def peft():
    return pytest.importorskip("peft")


@pytest.fixture(params=FAMILIES)
def folder(request, tmp_path):
    place = tmp_path / request.param
    tiny_model(request.param, 45).save_pretrained(place)
    toy_tokenizer().save_pretrained(place)
    return place


def load(folder, **options):
    torch.manual_seed(0)
    return LanguageModelPolicy.load(
        str(folder), max_prompt_tokens=12, max_completion_tokens=20, **options
    )


def scores(policy, prompts, completions, score="score"):
    found = getattr(policy, score)(TokenBatch.of(prompts, completions), policy.make_behavior())
    return found if score == "score_ref_policy" else found.logprobs


def learn(policy, prompts, completions):
    """One step that makes the completions more probable."""
    optimizer = torch.optim.Adam([p for p in policy.parameters() if p.requires_grad], lr=0.05)
    (-scores(policy, prompts, completions).sum()).backward()
    optimizer.step()


@pytest.mark.usefixtures("peft")
def test_a_new_adapter_is_the_base_and_only_it_learns(folder):
    base, policy = load(folder), load(folder, adapter=LORA)
    policy.make_ref_policy()
    prompts = ragged_prompts()
    completions = generate(base, prompts)
    with torch.no_grad():
        before = scores(base, prompts, completions)
        assert torch.allclose(scores(policy, prompts, completions), before, atol=1e-6)
    learned = {name for name, p in policy.named_parameters() if p.requires_grad}
    assert learned - {"critic.value_head.weight", "critic.value_head.bias"}
    assert all("lora_" in name or name.startswith("critic.value_head") for name in learned)
    kept = {n: p.clone() for n, p in policy.named_parameters() if not p.requires_grad}
    learn(policy, prompts, completions)
    with torch.no_grad():
        after = scores(policy, prompts, completions)
        reference = scores(policy, prompts, completions, "score_ref_policy")
        assert (after - before).sum() > 0.1
        assert torch.allclose(reference, before, atol=1e-6)
        assert torch.equal(scores(policy, prompts, completions), after)  # it is on again
    parameters = dict(policy.named_parameters())
    assert all(torch.equal(value, parameters[name]) for name, value in kept.items())
    assert {name for name, p in parameters.items() if p.requires_grad} == learned


@pytest.mark.usefixtures("peft")
def test_sampled_and_scored_agree_with_an_adapter(folder):
    policy, prompts = load(folder, adapter=LORA), ragged_prompts()
    learn(policy, prompts, generate(policy, prompts))
    completions = generate(policy, prompts, seed=3)
    with torch.no_grad():
        scored = scores(policy, prompts, completions)
    difference = (scored - completions.logprobs)[completions.mask].abs().max()
    assert float(difference) < 1e-5


@pytest.mark.usefixtures("peft")
def test_it_is_saved_as_an_adapter_folder_and_comes_back(folder, tmp_path):
    from peft import PeftModel

    policy, prompts = load(folder, adapter=LORA), ragged_prompts()
    completions = generate(policy, prompts)
    learn(policy, prompts, completions)
    saved = tmp_path / "saved"
    policy.save(saved)
    names = {path.name for path in saved.iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "value_head.safetensors"} <= names
    assert "model.safetensors" not in names
    again = load(saved)
    again.make_ref_policy()  # a copy: the start of another run is the policy with what it learned
    with torch.no_grad():
        before = scores(policy, prompts, completions)
        assert torch.equal(scores(again, prompts, completions), before)
        assert torch.equal(scores(again, prompts, completions, "score_ref_policy"), before)
    learn(again, prompts, completions)  # and training can continue
    with torch.no_grad():
        assert torch.equal(scores(again, prompts, completions, "score_ref_policy"), before)
    theirs = PeftModel.from_pretrained(tiny_model(folder.name, 45), saved)
    state = {name.replace("base_model.model.", ""): v for name, v in theirs.state_dict().items()}
    for name, value in policy.model.state_dict().items():
        assert torch.equal(state[name], value), name
    digests = model_digests(str(saved))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "note": "another base"}))
    assert model_digests(str(saved)).weights != digests.weights


@pytest.mark.usefixtures("peft")
def test_what_does_not_fit_is_refused(tmp_path):
    place = tmp_path / "llama"
    tiny_model("llama", 45).save_pretrained(place)
    toy_tokenizer().save_pretrained(place)
    with pytest.raises(
        PolicyError, match=r"policy\.adapter does not fit LlamaFor.*policy\.adapter"
    ):
        load(place, adapter=AdapterConfig(targets=["no_such_layer"]))
    with pytest.raises(PolicyError, match="shares its frozen trunk; use policy"):
        load(place, adapter=LORA, value_trunk="separate")


def test_without_peft_the_message_names_the_extra(folder, monkeypatch):
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(PolicyError, match=r"pip install 'lmrl-bench\[peft\]'"):
        load(folder, adapter=LORA)


def test_an_adapter_changes_the_digest_of_a_configuration():
    config = RunConfig.model_validate({"task": "toy", "algorithm": {"name": "ppo"}})
    assert config.scientific()["policy"]["adapter"] is None
    changed = config.model_copy(update={"policy": PolicyConfig(adapter=LORA)})
    assert changed.scientific()["policy"]["adapter"]["rank"] == 4
    assert changed.digest() != config.digest()
