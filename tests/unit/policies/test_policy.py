import copy
import json

import numpy as np
import pytest
import torch
from fixtures.policies import (
    FAMILIES,
    VOCABULARY,
    count_forwards,
    generate,
    ragged_prompts,
    score,
    tiny_model,
    tiny_policy,
)
from fixtures.toy import EOS_ID, toy_model_folder, toy_tokenizer
from gymnasium import spaces
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

from lmrl_bench.core.errors import PolicyError
from lmrl_bench.data.episodes import TokenBatch
from lmrl_bench.models.behavior import TopPFilter
from lmrl_bench.models.scoring import twice_differentiable
from lmrl_bench.policies.policy import LanguageModelPolicy, token_space

LIMITS = {"max_prompt_tokens": 12, "max_completion_tokens": 20}


def write_model(folder, family="gpt2", *, model=None, tokenizer=None):
    (model or tiny_model(family, VOCABULARY)).save_pretrained(folder)
    (tokenizer or toy_tokenizer()).save_pretrained(folder)
    return str(folder)


# -- the critic -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value_trunk", ["shared", "frozen", "separate"])
def test_values_are_zero_at_the_start(value_trunk):
    policy, prompts = tiny_policy("gpt2", value_trunk=value_trunk), ragged_prompts(4)
    completions = generate(policy, prompts)
    assert not score(policy, prompts, completions).values.any()
    assert (completions.values is None) == (value_trunk == "separate")


@pytest.mark.parametrize("family", FAMILIES)
def test_where_the_critic_sends_its_gradient(family):
    prompts = ragged_prompts(4)
    for value_trunk in ("shared", "frozen", "separate"):
        policy = tiny_policy(family, value_trunk=value_trunk)
        torch.nn.init.normal_(policy.critic.value_head.weight)
        completions = generate(policy, prompts)
        score(policy, prompts, completions).values.sum().backward()
        assert policy.critic.value_head.weight.grad.any()
        reached = any(
            value.grad is not None and value.grad.any() for value in policy.model.parameters()
        )
        assert reached == (value_trunk == "shared")
        if value_trunk == "separate":
            assert any(
                value.grad is not None and value.grad.any()
                for value in policy.critic.value_trunk.parameters()
            )


def test_only_the_critic_has_value_in_its_names():
    policy = tiny_policy("llama", value_trunk="separate")
    critic = {name for name, _ in policy.named_parameters() if "value" in name}
    actor = {name for name, _ in policy.named_parameters()} - critic
    assert actor == {f"model.{name}" for name, _ in policy.model.named_parameters()}
    assert {name.split(".")[1] for name in critic} == {"value_head", "value_trunk"}


# -- the reference ----------------------------------------------------------------------------------------------------


def test_reference_is_frozen_apart_and_unsaved():
    policy, prompts = tiny_policy("gpt2"), ragged_prompts(4)
    names = set(policy.state_dict())
    policy.make_ref_policy()
    assert set(policy.state_dict()) == names
    assert not any(parameter.requires_grad for parameter in policy.ref_policy.model.parameters())
    optimized = {id(p) for group in policy.optimizer.param_groups for p in group["params"]}
    assert not any(id(parameter) in optimized for parameter in policy.ref_policy.model.parameters())
    before = copy.deepcopy(policy.ref_policy.model.state_dict())
    completions = generate(policy, prompts)
    for _ in range(3):
        policy.optimizer.zero_grad()
        score(policy, prompts, completions).logprobs.sum().backward()
        policy.optimizer.step()
    after = policy.ref_policy.model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    inputs = (TokenBatch.of(prompts, completions), policy.make_behavior())
    assert (policy.score_ref_policy(*inputs) - policy.score(*inputs).logprobs).abs().max() > 1e-3


def test_reference_goes_where_the_policy_goes():
    policy = tiny_policy("gpt2")
    policy.make_ref_policy()
    policy.to("meta")
    for network in (policy.network, policy.ref_policy):
        assert {parameter.device.type for parameter in network.model.parameters()} == {"meta"}


@pytest.mark.parametrize("value_trunk", ["shared", "frozen", "separate"])
@pytest.mark.parametrize("family", ["gpt2", "t5"])
def test_values_alone_are_those_of_a_scoring(family, value_trunk):
    policy, prompts = tiny_policy(family, value_trunk=value_trunk), ragged_prompts()
    torch.nn.init.normal_(policy.critic.value_head.weight)
    completions = generate(policy, prompts)
    tokens = TokenBatch.of(prompts, completions)
    scored = policy.score(tokens, policy.make_behavior()).values
    assert scored.abs().max() > 0.1
    torch.testing.assert_close(policy.critic.values(tokens), scored)
    seen = count_forwards(policy)
    with torch.no_grad():
        torch.testing.assert_close(policy.critic.values(tokens), scored)
    assert bool(seen) == (value_trunk != "separate")


def test_reference_must_be_made():
    policy, prompts = tiny_policy("gpt2"), ragged_prompts(2)
    completions = generate(policy, prompts)
    with pytest.raises(ValueError, match="make_ref_policy"):
        policy.score_ref_policy(TokenBatch.of(prompts, completions), policy.make_behavior())


# -- scoring ----------------------------------------------------------------------------------------------------------


def test_full_logits_are_flat_and_normalized():
    policy, prompts = tiny_policy("gpt2"), ragged_prompts(4)
    completions = generate(policy, prompts)
    scores = score(policy, prompts, completions, full_logits=True)
    tokens = completions.ids[completions.mask]
    assert scores.logits.shape == (int(completions.mask.sum()), policy.network.width)
    chosen = scores.logits.gather(1, tokens[:, None]).squeeze(1)
    assert torch.equal(chosen, scores.logprobs[completions.mask])


def test_environment_tokens_are_read_but_not_scored():
    policy, prompts = tiny_policy("gpt2"), ragged_prompts(4)
    completions = generate(policy, prompts)
    full = score(policy, prompts, completions)
    holes = completions.mask.clone()
    holes[:, 1:3] = False
    part = policy.score(
        TokenBatch(prompts.ids, prompts.mask, completions.ids, holes), policy.make_behavior()
    )
    torch.testing.assert_close(part.logprobs, full.logprobs * holes, atol=1e-6, rtol=0)


def test_rows_without_tokens_give_zeros():
    policy, prompts = tiny_policy("gpt2"), ragged_prompts(3)
    completions = generate(policy, prompts)
    nothing = torch.zeros_like(completions.mask)
    with torch.no_grad():
        scores = policy.score(
            TokenBatch(prompts.ids, prompts.mask, completions.ids, nothing), policy.make_behavior()
        )
    assert not scores.logprobs.any()
    assert not scores.entropy.any()
    one = nothing.clone()
    one[1, 0] = True
    scores = policy.score(
        TokenBatch(prompts.ids, prompts.mask, completions.ids, one), policy.make_behavior()
    )
    assert (scores.logprobs != 0).sum() == 1


def test_micro_batches_change_nothing(monkeypatch):
    policy, prompts = tiny_policy("bart"), ragged_prompts(9, repeated=2)
    completions = generate(policy, prompts)
    with torch.no_grad():
        whole = score(policy, prompts, completions)
        monkeypatch.setattr("lmrl_bench.models.scoring.MICRO_BATCH_TOKENS", 130)
        monkeypatch.setattr("lmrl_bench.models.scoring.CHUNK_ELEMENTS", 3 * policy.network.width)
        parts = score(policy, prompts, completions)
    for name in ("logprobs", "values", "entropy"):
        torch.testing.assert_close(getattr(parts, name), getattr(whole, name), atol=1e-5, rtol=0)


def test_shapes_that_do_not_fit_are_refused():
    policy, prompts = tiny_policy("gpt2"), ragged_prompts(3)
    done = generate(policy, prompts)
    with pytest.raises(ValueError, match=r"completion_mask has shape .*, expected"):
        TokenBatch(prompts.ids, prompts.mask, done.ids, done.mask[:, :-1])
    with pytest.raises(ValueError, match=r"prompt_mask has shape .*, expected"):
        TokenBatch(prompts.ids, prompts.mask[:, 1:], done.ids, done.mask)
    with pytest.raises(ValueError, match="2 prompts for 3 completions"):
        TokenBatch(prompts.ids[:2], prompts.mask[:2], done.ids, done.mask)


def test_large_vocabularies_are_never_laid_out_for_all_tokens(monkeypatch):
    policy = tiny_policy("llama", model=tiny_model("llama", 5000))
    sizes = []
    policy.model.lm_head.register_forward_hook(
        lambda _, __, output: sizes.append(output.shape[:-1].numel())
    )
    prompts = ragged_prompts(8)
    completions = generate(policy, prompts)
    sizes.clear()
    monkeypatch.setattr("lmrl_bench.models.scoring.CHUNK_ELEMENTS", 5000 * 16)
    with torch.no_grad():
        score(policy, prompts, completions)
    assert max(sizes) <= 16  # without gradients: chunks
    sizes.clear()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.shape) or x, lambda x: x):
        scores = score(policy, prompts, completions)
    assert max(sizes) <= 16  # with gradients too
    assert not {(16, 5000), (int(completions.mask.sum()), 5000)} & {tuple(shape) for shape in kept}
    assert scores.logprobs.requires_grad


def test_chunks_change_no_gradient(monkeypatch):
    policy, prompts = tiny_policy("t5"), ragged_prompts(6)
    behavior = policy.make_behavior(temperature=0.7, min_tokens=2)
    mask = TopPFilter(policy.network, EOS_ID, top_p=0.8)
    completions = generate(policy, prompts, behavior, mask=mask)
    gradients = []
    for chunk in (2**24, 3 * policy.network.width):
        monkeypatch.setattr("lmrl_bench.models.scoring.CHUNK_ELEMENTS", chunk)
        scores = score(policy, prompts, completions, behavior, allowed=completions.allowed)
        total = (scores.logprobs * completions.mask.cumsum(1) + scores.entropy**2).sum()
        parameters = [p for p in policy.model.parameters() if p.requires_grad]
        gradients.append(torch.autograd.grad(total, parameters))
    for one, other in zip(*gradients, strict=True):
        assert float(one.abs().max()) > 0.0
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_second_derivatives(family):
    policy, prompts = tiny_policy(family), ragged_prompts(4)
    completions = generate(policy, prompts, max_tokens=4)
    with twice_differentiable():
        loss = score(policy, prompts, completions).logprobs.sum()
    parameters = list(policy.model.parameters())
    first = torch.autograd.grad(loss, parameters, create_graph=True, allow_unused=True)
    norm = sum((part**2).sum() for part in first if part is not None)
    second = torch.autograd.grad(norm, parameters, allow_unused=True)
    assert all(torch.isfinite(part).all() for part in second if part is not None)
    assert any(part.abs().max() > 0 for part in second if part is not None)


# -- saving and loading -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("value_trunk", ["shared", "separate"])
def test_save_and_load_is_bit_equal(family, value_trunk, tmp_path):
    policy, prompts = tiny_policy(family, value_trunk=value_trunk), ragged_prompts(4)
    torch.nn.init.normal_(policy.critic.value_head.weight)
    if value_trunk == "separate":
        torch.nn.init.normal_(next(iter(policy.critic.value_trunk.parameters())))
    policy.save(tmp_path / "policy")
    policy.save(tmp_path / "policy")  # an older folder is replaced
    assert [entry.name for entry in tmp_path.iterdir()] == ["policy"]
    loaded = LanguageModelPolicy.load(str(tmp_path / "policy"), value_trunk=value_trunk, **LIMITS)
    for (name, own), (other, read) in zip(
        policy.state_dict().items(), loaded.state_dict().items(), strict=True
    ):
        assert name == other
        assert torch.equal(own, read), name
    completions = generate(policy, prompts)
    one, two = (score(each, prompts, completions) for each in (policy, loaded))
    assert torch.equal(one.logprobs, two.logprobs)
    assert torch.equal(one.values, two.values)
    auto = AutoModelForSeq2SeqLM if policy.kind == "seq2seq" else AutoModelForCausalLM
    plain = auto.from_pretrained(tmp_path / "policy")
    for name, value in plain.state_dict().items():
        assert torch.equal(value, policy.model.state_dict()[name]), name
    assert len(AutoTokenizer.from_pretrained(tmp_path / "policy")) == VOCABULARY


@pytest.mark.parametrize("tied", [True, False])
def test_t5_output_layer_stays_tied_or_apart(tied, tmp_path):
    model = tiny_model("t5")
    model.config.tie_word_embeddings = tied
    if tied:
        model.lm_head.weight = model.shared.weight
    else:
        model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight))
    policy = tiny_policy("t5", model=model)
    policy.make_ref_policy()
    policy.save(tmp_path / "t5")
    loaded = LanguageModelPolicy.load(str(tmp_path / "t5"), **LIMITS)
    for each in (policy.model, policy.ref_policy.model, loaded.model):
        assert torch.equal(each.lm_head.weight, each.shared.weight) == tied
        assert torch.equal(each.lm_head.weight, policy.model.lm_head.weight)
        assert torch.equal(each.shared.weight, policy.model.shared.weight)


def test_half_precision_weights_are_loaded_as_float32(tmp_path):
    write_model(tmp_path, model=tiny_model("llama", VOCABULARY).half())
    policy = LanguageModelPolicy.load(str(tmp_path), **LIMITS)
    assert {parameter.dtype for parameter in policy.parameters()} == {torch.float32}


def test_a_value_head_of_another_trunk_is_refused(tmp_path):
    tiny_policy("gpt2", value_trunk="separate").save(tmp_path / "policy")
    with pytest.raises(PolicyError, match=r"separate trunk.*policy.value_trunk=separate"):
        LanguageModelPolicy.load(str(tmp_path / "policy"), **LIMITS)


def test_nothing_half_written(tmp_path, monkeypatch):
    policy = tiny_policy("gpt2")
    policy.save(tmp_path / "policy")
    stored = load_file(tmp_path / "policy" / "model.safetensors")

    def broken(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr("lmrl_bench.models.storage.save_file", broken)
    with pytest.raises(OSError, match="disk full"):
        policy.save(tmp_path / "policy")
    assert [entry.name for entry in tmp_path.iterdir()] == ["policy"]
    after = load_file(tmp_path / "policy" / "model.safetensors")
    assert all(torch.equal(after[name], value) for name, value in stored.items())


# -- what is refused --------------------------------------------------------------------------------------------------


def test_tokenizer_without_eos(tmp_path):
    tokenizer = toy_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(PolicyError, match=r"no EOS token.*tokenizer_config.json"):
        LanguageModelPolicy.load(write_model(tmp_path, tokenizer=tokenizer), **LIMITS)


def test_tokenizer_longer_than_the_output(tmp_path):
    with pytest.raises(PolicyError, match="45 tokens, but the model has only 40 outputs"):
        LanguageModelPolicy.load(write_model(tmp_path, model=tiny_model("gpt2", 40)), **LIMITS)


@pytest.mark.parametrize(("family", "prompt", "needed"), [("gpt2", 120, 140), ("bart", 130, 130)])
def test_too_few_positions(tmp_path, family, prompt, needed):
    folder = write_model(tmp_path, family)
    with pytest.raises(PolicyError, match=f"128 positions.*need {needed}.*max_tokens"):
        LanguageModelPolicy.load(folder, max_prompt_tokens=prompt, max_completion_tokens=20)


def test_relative_positions_have_no_limit(tmp_path):
    folder = write_model(tmp_path, "t5")
    LanguageModelPolicy.load(folder, max_prompt_tokens=5000, max_completion_tokens=20)


def test_wrong_kind():
    policy = tiny_policy("gpt2")
    policy.require_kind(["causal", "seq2seq"], "toy")
    with pytest.raises(
        PolicyError, match=r"task 'toy' takes seq2seq policies.*is causal.*--policy"
    ):
        policy.require_kind(["seq2seq"], "toy")


def test_corrupt_weights(tmp_path):
    folder = write_model(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"not a tensor")
    with pytest.raises(PolicyError, match=r"cannot be read"):
        LanguageModelPolicy.load(folder, **LIMITS)


def test_unknown_architecture(tmp_path):
    folder = write_model(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "abacus"}))
    with pytest.raises(PolicyError, match="cannot be read"):
        LanguageModelPolicy.load(folder, **LIMITS)


def test_weights_of_another_shape(tmp_path):
    folder = write_model(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    name = next(name for name in stored if name.endswith("c_fc.weight"))
    stored[name] = stored[name][:, :-1].contiguous()
    save_file(stored, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(PolicyError, match=r"1 weights whose shape differs.*mlp\.c_fc\.weight"):
        LanguageModelPolicy.load(folder, **LIMITS)


def test_missing_weights_are_not_made_up(tmp_path):
    folder = write_model(tmp_path, "llama")
    stored = load_file(tmp_path / "model.safetensors")
    del stored["lm_head.weight"]
    save_file(stored, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(PolicyError, match=r"lacks 1 weights.*lm_head.weight"):
        LanguageModelPolicy.load(folder, **LIMITS)


def test_spaces_that_do_not_fit():
    model, tokenizer = tiny_model("gpt2"), toy_tokenizer()
    good = token_space(12, 20, 50)
    for space, action in (
        (spaces.Box(0, 1, (3,), np.float32), spaces.Discrete(50)),
        (good, spaces.Discrete(44)),
        (good, spaces.Discrete(51)),
        (good, spaces.MultiDiscrete([50])),
    ):
        with pytest.raises(PolicyError, match=r"the policy (observes|acts)"):
            LanguageModelPolicy(space, action, lambda _: 0.0, model=model, tokenizer=tokenizer)


def test_state_dependent_exploration_is_refused():
    with pytest.raises(PolicyError, match="use_sde"):
        tiny_policy("gpt2", use_sde=True)


def test_a_model_object_needs_its_tokenizer():
    with pytest.raises(PolicyError, match="tokenizer"):
        LanguageModelPolicy(
            token_space(12, 20, 50), spaces.Discrete(50), lambda _: 0.0, model=tiny_model("gpt2")
        )


def test_dropout_only_when_asked_for():
    assert not tiny_policy("gpt2").train().model.training
    assert tiny_policy("gpt2", dropout=True).train().model.training
    assert not tiny_policy("gpt2", dropout=True).model.training


def test_a_special_token_that_the_model_lacks_is_named_before_any_forward(tmp_path):
    folder = toy_model_folder(tmp_path / "model")
    (
        folder / "tokenizer_config.json"
    ).unlink()  # Transformers then adds GPT-2's own special token behind the others
    with pytest.raises(
        PolicyError, match=r"only 45 outputs \(the largest id is 45\).*tokenizer_config"
    ):
        LanguageModelPolicy.load(str(folder), max_prompt_tokens=8, max_completion_tokens=6)
