"""The promises that a GPU could break, on one; without one they are skipped."""

import io

import pytest
import torch
from fixtures.policies import FAMILIES, generate, ragged_prompts, score, tiny_policy
from fixtures.toy import EOS_ID
from fixtures.training import ACTING, largest_difference, make_algorithm, weights_of

from lmrl_bench.models.behavior import TopPFilter
from lmrl_bench.rollouts.engine import draw_tokens

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
GPU = torch.device("cuda")


@pytest.mark.parametrize("masked", [False, True], ids=["plain", "masked"])
@pytest.mark.parametrize("value_trunk", ["shared", "separate"])
@pytest.mark.parametrize("family", FAMILIES)
def test_scored_equals_sampled_and_what_a_processor_says(family, value_trunk, masked):
    policy = tiny_policy(family, value_trunk=value_trunk)
    torch.nn.init.normal_(policy.critic.value_head.weight)
    policy.to(GPU)
    prompts, behavior = ragged_prompts(repeated=2), policy.make_behavior(temperature=0.7)
    mask = TopPFilter(policy.network, EOS_ID, top_p=0.9) if masked else None
    completions = generate(policy, prompts, behavior, mask=mask)
    on_gpu = score(policy, prompts, completions, behavior, allowed=completions.allowed)
    on_cpu = score(policy.to("cpu"), prompts, completions, behavior, allowed=completions.allowed)
    torch.testing.assert_close(on_gpu.logprobs, completions.logprobs, atol=1e-5, rtol=0)
    for name in ("logprobs", "entropy", "values"):
        torch.testing.assert_close(
            getattr(on_gpu, name), getattr(on_cpu, name), atol=1e-4, rtol=1e-4
        )


@pytest.mark.parametrize("family", ["gpt2", "llama", "t5"])
@pytest.mark.parametrize("name", ACTING)
def test_an_update_is_the_processor_s(name, family):
    ours = {
        device: make_algorithm(name, family=family, device=device) for device in ("cpu", "cuda")
    }
    batch = ours["cpu"].collect().episodes
    stats = {
        device: algorithm.update(batch.to(torch.device(device)))
        for device, algorithm in ours.items()
    }
    cpu, gpu = stats["cpu"], stats["cuda"]
    assert gpu.optimizer_steps == cpu.optimizer_steps
    assert gpu.gradient_norm == pytest.approx(cpu.gradient_norm, rel=1e-2)
    assert gpu.terms == pytest.approx(cpu.terms, rel=1e-2, abs=1e-3)


@pytest.mark.parametrize("settings", [{}, {"autocast": "bfloat16"}], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["ppo", "nlpo", "grpo"])
def test_resume_equals_uninterrupted(name, settings):
    whole = make_algorithm(name, device="cuda", **settings)
    whole.learn(200)
    half = make_algorithm(name, device="cuda", **settings)
    half.learn(100)
    buffer = io.BytesIO()
    torch.save(half.state_dict(), buffer)
    buffer.seek(0)
    resumed = make_algorithm(name, device="cuda", **settings)
    resumed.load_state_dict(torch.load(buffer, weights_only=True))
    resumed.learn(200)
    assert (resumed.tokens, resumed.iteration) == (whole.tokens, whole.iteration)
    assert largest_difference(weights_of(whole.policy), weights_of(resumed.policy)) < 1e-4


@pytest.mark.parametrize("rows", [1, 2, 64])
def test_impossible_tokens_are_never_drawn_and_possible_ones_as_on_a_processor(rows):
    rng = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(rows, 50_000, generator=rng)
    logits[:, ::3] = -torch.inf
    log_probabilities = logits.log_softmax(dim=-1)
    same = 0
    for _ in range(100):
        uniforms = torch.rand(rows, generator=rng, dtype=torch.float64)
        on_cpu = draw_tokens(log_probabilities, uniforms)
        on_gpu = draw_tokens(log_probabilities.to(GPU), uniforms.to(GPU)).cpu()
        assert log_probabilities.gather(1, on_gpu.unsqueeze(1)).isfinite().all()
        same += int((on_gpu == on_cpu).sum())
    assert same > 0.98 * 100 * rows  # rounding moves the edges of steps


@pytest.mark.parametrize("name", ACTING)
def test_the_ratio_is_one_before_the_first_update(name):
    seen = []
    make_algorithm(name, device="cuda", total_tokens=30).learn(after_iteration=seen.append)
    limit = 1e-5 if name != "nlpo-rl4lms" else 10.0
    assert seen[0].update.max_logprob_difference < limit
