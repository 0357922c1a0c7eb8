"""The cost of training in counts that do not depend on the machine: forwards, tokens read, logits held, Python calls.

A change that makes training slower on every machine shows here; what is faster on one machine does not.
"""

import math
import sys
from collections import Counter
from contextlib import contextmanager

import pytest
import torch
from fixtures.policies import count_forwards
from fixtures.toy import toy_task
from fixtures.training import ACTING, SMALL, changed, make_algorithm, make_policy
from torch.utils._python_dispatch import TorchDispatchMode

from lmrl_bench.models.behavior import TopPFilter

FAMILIES = ("gpt2", "t5")


class Tensors(TorchDispatchMode):
    """Collects the shapes of all tensors, and how many elements lie in memory behind each (for a view, its base's)."""

    def __init__(self):
        super().__init__()
        self.sizes = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for part in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(part, torch.Tensor):
                elements = part.untyped_storage().nbytes() // part.element_size()
                self.sizes[tuple(part.shape)] = max(elements, self.sizes[tuple(part.shape)])
        return result


def algorithm_and_reads(name, family="gpt2", **settings):
    algorithm = make_algorithm(name, family=family, temperature=4.0, **settings)
    return algorithm, count_forwards(algorithm.policy)


def count_encodings(network):
    """Returns a list that collects the shape of every batch of prompts that an encoder reads."""
    seen = []

    def note(_module, args, kwargs):
        seen.append(tuple((args[0] if args else kwargs["input_ids"]).shape))

    if network.kind == "seq2seq":
        network.model.get_encoder().register_forward_pre_hook(note, with_kwargs=True)
    return seen


def tokens_read(reads):
    return sum(rows * columns for rows, columns in reads)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_episode_is_read_once_while_it_is_sampled_and_its_values_fall_off(family):
    policy = make_policy(family, max_completion_tokens=24)
    algorithm, reads = algorithm_and_reads(
        "ppo", policy=policy, task=toy_task(max_completion_tokens=24), episodes_per_iteration=12
    )
    reference = count_forwards_of(algorithm.policy.ref_policy)
    encoded = count_encodings(policy.network)
    batch = algorithm.collect().episodes
    assert len(reads) == int(batch.lengths.max())  # the prompt, then each token but the last
    assert len(encoded) == (family == "t5")
    steps = reads[1:] if family == "gpt2" else reads
    assert all(columns == 1 for _, columns in steps)
    rows = [rows for rows, _ in steps]
    assert rows == sorted(rows, reverse=True)
    assert rows[-1] < rows[0] == 12  # finished rows left
    still_open = [int((batch.lengths > step).sum()) for step in range(len(reads))]
    assert sum(rows) <= 4 / 3 * sum(still_open)  # at most a quarter of them waits
    assert len(reference) == 1


@pytest.mark.parametrize(
    ("name", "settings", "reads"),
    [
        ("ppo", {"kl": {"coefficient": 0.0}}, 0),
        ("ppo", {}, 1),
        ("grpo", {"kl": {"coefficient": 0.0}}, 0),
        ("grpo", {"kl": {"coefficient": 0.0}, "kl_loss_coefficient": 0.1}, 1),
    ],
)
def test_the_reference_is_read_only_where_its_distance_is_charged(name, settings, reads):
    algorithm = make_algorithm(name, **settings)
    reference = count_forwards_of(algorithm.policy.ref_policy)
    rows = []
    algorithm.learn(1, after_iteration=rows.append)
    assert bool(reference) == bool(reads)
    assert (rows[0].rollout.kl is None) == (reads == 0)
    assert rows[0].rollout.kl_charged == 0.0 or reads


def count_forwards_of(network):
    """As `count_forwards`, of another network than the policy's."""
    seen = []
    embedding = (
        network.model.get_decoder().embed_tokens
        if network.kind == "seq2seq"
        else network.model.get_input_embeddings()
    )
    embedding.register_forward_pre_hook(lambda _, args: seen.append(tuple(args[0].shape)))
    return seen


@pytest.mark.parametrize("family", FAMILIES)
def test_nlpos_mask_reads_what_the_policy_reads(family):
    algorithm, reads = algorithm_and_reads("nlpo", family)
    mask = count_forwards_of(algorithm.token_filter.network)
    encoded = count_encodings(algorithm.token_filter.network)
    algorithm.collect()
    assert mask == reads
    assert len(encoded) == (family == "t5")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", ["ppo", "grpo", "rloo"])
def test_the_prompt_of_a_group_is_read_once(name, family):
    """While sampling, while the reference is scored, and in each pass of the update."""
    settings = {"group_size": 4, "epochs": 3, "minibatch_episodes": 8, "kl": {"coefficient": 0.1}}
    algorithm, reads = algorithm_and_reads(name, family, **settings)
    policy = algorithm.policy
    encoded, reference = (count_encodings(one) for one in (policy.network, policy.ref_policy))
    reference_reads = count_forwards_of(policy.ref_policy)
    batch = algorithm.collect().episodes
    width = int(batch.tokens.prompt_mask.sum(dim=1).max())
    seen = (reads[:1], reference_reads) if family == "gpt2" else (encoded, reference)
    assert [one[0] for one in seen] == [(2, width), (2, width)]
    assert len(encoded) == len(reference) == (family == "t5")
    reads.clear()
    encoded.clear()
    algorithm.update(batch)
    prompts = reads[::2] if family == "gpt2" else encoded
    assert prompts == [(2, width)] * 3


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", [name for name in ACTING if name != "trpo"])
def test_an_update_reads_each_token_once_a_pass(family, name):
    """One forward for each minibatch, and for groups one of their prompts before it."""
    settings = {"episodes_per_iteration": 8} | SMALL[name]
    algorithm, reads = algorithm_and_reads(name, family, **settings)
    encoded = count_encodings(algorithm.policy.network)
    batch = algorithm.collect().episodes
    reads.clear()
    encoded.clear()
    algorithm.update(batch)
    passes = settings.get("epochs", 1)
    steps = passes * math.ceil(len(batch) / settings.get("minibatch_episodes", len(batch)))
    width = batch.tokens.completion_ids.shape[1] - (family == "gpt2")
    width += batch.tokens.prompt_ids.shape[1] if family == "gpt2" else 0
    assert tokens_read(reads) <= passes * len(batch) * width
    with_prompt = sum(columns > width - batch.tokens.prompt_ids.shape[1] for _, columns in reads)
    shared = family == "gpt2" and "group_size" in settings
    assert steps <= len(reads) <= steps * (1 + shared), with_prompt
    assert len(encoded) == steps * (family == "t5")


@pytest.mark.parametrize("family", FAMILIES)
def test_little_of_what_is_read_is_padding(family, monkeypatch):
    """Checks ragged completions and prompts with more padding, with gradients and without."""
    monkeypatch.setattr("lmrl_bench.speedups.packing.CALL_TOKENS", 4)
    task = toy_task(max_completion_tokens=24, min_completion_tokens=23)
    policy = make_policy(family, max_completion_tokens=24)
    algorithm, reads = algorithm_and_reads(
        "a2c", policy=policy, task=task, episodes_per_iteration=32
    )
    batch = algorithm.collect().episodes
    lengths = (-6 * torch.rand(32, 1, generator=torch.Generator().manual_seed(0)).log()).clamp(
        1, 24
    )
    more = torch.nn.functional.pad
    batch = changed(
        batch,
        completion_mask=batch.mask & (torch.arange(24) < lengths.ceil()),
        prompt_ids=more(batch.tokens.prompt_ids, (40, 0)),
        prompt_mask=more(batch.tokens.prompt_mask, (40, 0)),
    )
    prompts = batch.tokens.prompt_mask.sum(dim=1) * (family == "gpt2")
    real, rectangle = batch.tokens.n_tokens + int(prompts.sum()), 32 * (24 + int(prompts.max()))
    for work in (algorithm.update, torch.no_grad()(algorithm.score)):
        reads.clear()
        work(batch)
        assert tokens_read(reads) < 1.4 * real < 0.6 * rectangle


@pytest.mark.parametrize("tokens", [8, 24])
def test_weights_are_packed_for_longer_completions(tokens, monkeypatch):
    packed = []

    @contextmanager
    def note(models):
        packed.extend(models)
        yield

    monkeypatch.setattr("lmrl_bench.rollouts.engine.packed_weights", note)
    policy = make_policy(max_completion_tokens=tokens)
    algorithm = make_algorithm("nlpo", policy=policy, task=toy_task(max_completion_tokens=tokens))
    algorithm.collect()
    models = [policy.model, algorithm.token_filter.model]
    assert packed == (models if tokens == 24 else [])


@pytest.mark.parametrize("family", FAMILIES)
def test_trpos_update_is_one_forward_a_product_and_one_a_try(family):
    algorithm, reads = algorithm_and_reads(
        "trpo", family, fisher_fraction=0.5, conjugate_gradient_steps=3
    )
    batch = algorithm.collect().episodes
    reads.clear()
    stats = algorithm.update(batch)
    whole = [rows for rows, _ in reads if rows == len(batch)]
    share = [rows for rows, _ in reads if rows == len(batch) // 2]
    # The gradient, the states of the old policy, and one for each step length; the critic has the last one's states.
    assert len(whole) == 2 + stats.terms["backtracks"]
    # The graph that all products share, and one forward-mode pass for each.
    assert len(share) == 1 + 3
    assert len(reads) == len(whole) + len(share)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", ["ppo", "trpo", "a2c", "grpo"])
def test_logits_are_made_at_the_chosen_tokens_only(name, family):
    """Prompts are longer than completions, and no tensor is as large as the logits of whole rows."""
    policy = make_policy(family, max_completion_tokens=4)
    vocabulary = policy.network.width
    task = toy_task(max_completion_tokens=4)
    algorithm = make_algorithm(name, policy=policy, task=task, temperature=4.0)
    with Tensors() as made:
        batch = algorithm.collect().episodes
        algorithm.update(batch)
    rows, columns = batch.tokens.prompt_ids.shape
    assert columns > 4
    flat = sum(parameter.numel() for parameter in policy.model.parameters())  # TRPO's vectors
    sizes = {shape: size for shape, size in made.sizes.items() if size != flat}
    largest = max(size for shape, size in sizes.items() if shape[-1:] == (vocabulary,))
    weights = policy.network.head.weight.numel()
    assert largest <= max(batch.tokens.n_tokens * vocabulary, weights, rows * vocabulary)
    assert largest < rows * (columns + batch.tokens.completion_ids.shape[1]) * vocabulary / 2


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_of_ragged_completions_are_made_at_their_tokens_only(family):
    policy = make_policy(family)
    vocabulary = policy.network.width
    algorithm = make_algorithm("a2c", policy=policy, temperature=4.0, episodes_per_iteration=16)
    batch = algorithm.collect().episodes
    first = torch.arange(batch.tokens.completion_ids.shape[1]) == 0
    batch = changed(batch, completion_mask=batch.mask & (first | (torch.arange(16) == 0)[:, None]))
    with Tensors() as made:
        algorithm.update(batch)
    largest = max(size for shape, size in made.sizes.items() if shape[-1:] == (vocabulary,))
    assert largest <= max(batch.tokens.n_tokens * vocabulary, policy.network.head.weight.numel())
    assert largest < 0.5 * batch.tokens.completion_ids.numel() * vocabulary


@pytest.mark.parametrize("family", FAMILIES)
def test_python_calls_of_a_decoding_step_do_not_grow_with_the_batch(family):
    calls = {}
    for episodes in (4, 32):
        algorithm, reads = algorithm_and_reads("ppo", family, episodes_per_iteration=episodes)
        prompts = algorithm.core.sample_prompts(episodes)
        algorithm.collector.generate(prompts)  # what is made on first use
        reads.clear()
        counted = Counter()
        sys.setprofile(lambda _frame, event, _argument, counted=counted: counted.update([event]))
        try:
            algorithm.collector.generate(prompts)
        finally:
            sys.setprofile(None)
        calls[episodes] = counted["call"] / len(reads)
    assert calls[32] - calls[4] < 14  # half a call for each further row
    assert calls[32] < CALLS_PER_STEP[family]


CALLS_PER_STEP = {"gpt2": 690, "t5": 1300}
"""Python calls of one step of a two-layer model, nearly all of them in Transformers; a tenth more than it was."""


def test_the_top_p_set_is_found_without_sorting_the_vocabulary_with_its_order():
    policy = make_policy("gpt2")
    mask = TopPFilter(policy.network, 1, top_p=0.9)
    logits = torch.randn(3, 4, 45)

    class NoSort(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            assert "sort" not in str(function)
            return function(*args, **(kwargs or {}))

    with NoSort():
        mask.allowed(logits)
