"""Models that compute otherwise from a length on, and decoders that start with a forced token."""

from __future__ import annotations

import pytest
import torch
from fixtures.policies import generate, ragged_prompts, score, tiny_policy
from fixtures.toy import tiny_seq2seq, toy_tokenizer
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
)

from lmrl_bench.core.errors import PolicyError
from lmrl_bench.models.probe import Threshold, thresholds
from lmrl_bench.policies.policy import LanguageModelPolicy

COMMON = {
    "vocab_size": 50, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128,
    "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2,
}  # fmt: skip


def longrope(original=20):
    return Phi3Config(
        **COMMON, original_max_position_embeddings=original,
        rope_parameters={
            "rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 4,
            "long_factor": [4.0] * 4, "original_max_position_embeddings": original,
        },
    )  # fmt: skip


def folder_of(folder, model):
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.normal_(0, 0.22)
    model.save_pretrained(folder)
    toy_tokenizer().save_pretrained(folder)
    return str(folder)


def load(folder, prompt, completion):
    return LanguageModelPolicy.load(
        folder, max_prompt_tokens=prompt, max_completion_tokens=completion
    )


@pytest.mark.parametrize("size", [(32, 20), (10, 11), (21, 1), (3, 30), (40, 5)])
def test_longrope_that_a_task_reaches_is_refused(size, tmp_path):
    """Case A6: below and above 20 positions the rotations differ, and a cache holds the old ones."""
    folder = folder_of(tmp_path, Phi3ForCausalLM(longrope()))
    with pytest.raises(
        PolicyError, match=r"past original_max_position_embeddings: 20 tokens, .*task\.yaml below"
    ):
        load(folder, *size)


def test_longrope_below_its_threshold_loads(tmp_path):
    folder = folder_of(tmp_path, Phi3ForCausalLM(longrope()))
    policy = load(folder, 12, 8)
    prompts = ragged_prompts()
    done = generate(policy, prompts, max_tokens=8)
    torch.testing.assert_close(
        score(policy, prompts, done).logprobs, done.logprobs, atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("window", [2, 5, 16, 30])
def test_a_sliding_window_is_right_on_both_sides(window, tmp_path):
    config = MistralConfig(**COMMON, sliding_window=window)
    policy = load(folder_of(tmp_path, MistralForCausalLM(config)), 12, 20)
    prompts = ragged_prompts()
    done = generate(policy, prompts)
    torch.testing.assert_close(
        score(policy, prompts, done).logprobs, done.logprobs, atol=1e-4, rtol=0
    )


def test_a_window_that_decoding_ignores_is_refused(tmp_path, monkeypatch):
    """The probe of eight tokens cannot see it; the one past the threshold does."""
    from lmrl_bench.models.causal import CausalNetwork

    own = CausalNetwork.run_cached

    def everything(self, cache, **inputs):
        masks, self.model.config.sliding_window = self.model.config.sliding_window, 1000
        try:
            return own(self, cache, **inputs)
        finally:
            self.model.config.sliding_window = masks

    monkeypatch.setattr(CausalNetwork, "run_cached", everything)
    config = MistralConfig(**COMMON, sliding_window=12)
    folder = folder_of(tmp_path, MistralForCausalLM(config))
    with pytest.raises(PolicyError, match="past sliding_window: 12 tokens"):
        load(folder, 12, 20)


def test_thresholds_of_configurations():
    found = thresholds(longrope(20).to_dict())
    assert Threshold("original_max_position_embeddings", 20) in found
    assert thresholds({"attention_window": [4, 8], "chunk_size_feed_forward": 0, "block": True,
                       "text_config": {"attention_chunk_size": 6}, "num_layers": 3}) == [
        Threshold("attention_window", 4), Threshold("attention_chunk_size", 6),
        Threshold("attention_window", 8),
    ]  # fmt: skip


def test_ordinary_models_are_read_twice_more(monkeypatch):
    """The longest row of the task, scored once; no second decoding."""
    model = LlamaForCausalLM(LlamaConfig(**COMMON))
    shapes = []
    model.model.embed_tokens.register_forward_pre_hook(lambda _, args: shapes.append(args[0].shape))
    tiny_policy("llama", model=model)
    assert [tuple(shape) for shape in shapes[-3:]] == [(1, 32), (1, 26), (2, 32)]


class TestForcedFirstToken:
    """BART's `forced_bos_token_id`: `generate` of Transformers is the oracle."""

    FORCED = 7

    def model(self):
        model = tiny_seq2seq("bart", 50)
        model.generation_config.forced_bos_token_id = self.FORCED
        return model

    def test_greedy_equals_generate(self):
        model = self.model()
        tokenizer = toy_tokenizer()
        generation = model.generation_config
        generation.update(
            max_new_tokens=9, do_sample=False, num_beams=1, suppress_tokens=[45, 46, 47, 48, 49]
        )
        ids = torch.tensor([[3, 4, 5, 6, 1]])
        expected = model.generate(ids, generation_config=generation)[0].tolist()
        assert expected[:2] == [1, self.FORCED]
        policy = tiny_policy("bart", model=model, tokenizer=tokenizer)
        from lmrl_bench.data.episodes import Prompts

        prompts = Prompts(
            ids, torch.ones_like(ids, dtype=torch.bool), ("s",), torch.zeros(1).long()
        )
        done = generate(policy, prompts, greedy=True, max_tokens=8)
        drawn = done.ids[0][done.mask[0]].tolist()
        assert drawn == expected[2 : 2 + len(drawn)]
        assert drawn

    def test_scored_equals_sampled_and_the_plain_forward(self):
        model = self.model()
        policy = tiny_policy("bart", model=model)
        prompts = ragged_prompts(4, repeated=1)
        done = generate(policy, prompts)
        scored = score(policy, prompts, done).logprobs
        torch.testing.assert_close(scored, done.logprobs, atol=1e-4, rtol=0)
        row = 2
        completion = done.ids[row][done.mask[row]]
        plain = model(
            input_ids=prompts.ids[row][prompts.mask[row]].unsqueeze(0),
            decoder_input_ids=torch.cat([torch.tensor([1, self.FORCED]), completion]).unsqueeze(0),
        ).logits[0, 1:-1, :45].log_softmax(-1)  # fmt: skip
        expected = plain.gather(1, completion.unsqueeze(1)).squeeze(1)
        torch.testing.assert_close(scored[row][done.mask[row]], expected, atol=1e-4, rtol=0)

    def test_it_is_kept_when_the_policy_is_saved(self, tmp_path):
        policy = tiny_policy("bart", model=self.model())
        policy.save(tmp_path / "saved")
        again = load(str(tmp_path / "saved"), 12, 20)
        assert again.network.start_ids == [1, self.FORCED]


def test_a_model_that_takes_a_drawn_padding_id_for_padding_is_refused(tmp_path):
    """M2M100 leaves positions out at padding ids: with a cache and without it, they are others."""
    from transformers import M2M100Config, M2M100ForConditionalGeneration

    config = M2M100Config(
        vocab_size=50, d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=64, decoder_ffn_dim=64, pad_token_id=0,
        eos_token_id=1, bos_token_id=2, decoder_start_token_id=1,
    )  # fmt: skip
    folder = folder_of(tmp_path, M2M100ForConditionalGeneration(config))
    with pytest.raises(PolicyError, match="decoding with a cache gives other log-probabilities"):
        load(folder, 12, 20)
