"""What the work costs in counts that no machine changes: forwards, tokens read, logits held, Python calls.

A change that makes training slower on every machine shows here; what is faster on one machine does not.
"""

import math
import sys
from collections import Counter

import pytest
import torch
from fixtures.policies import count_forwards
from fixtures.toy import toy_task
from fixtures.training import make_algorithm, make_policy
from torch.utils._python_dispatch import TorchDispatchMode

from lmrl_bench.policies.behaviour import TopPMask

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


def tokens_read(reads):
    return sum(rows * columns for rows, columns in reads)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_episode_is_read_once_while_it_is_sampled_and_its_values_fall_off(family):
    policy = make_policy(family, max_response_tokens=24)
    algorithm, reads = algorithm_and_reads(
        "ppo", policy=policy, task=toy_task(max_response_tokens=24), episodes_per_iteration=12
    )
    reference = count_forwards_of_reference(algorithm)
    batch = algorithm.collect()
    assert len(reads) == int(batch.lengths.max())  # the prompt, then each token but the last
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
    reference = count_forwards_of_reference(algorithm)
    rows = []
    algorithm.learn(1, after_iteration=rows.append)
    assert bool(reference) == bool(reads)
    assert (rows[0].rollout.kl is None) == (reads == 0)
    assert rows[0].rollout.kl_charged == 0.0 or reads


def count_forwards_of_reference(algorithm):
    network = algorithm.policy.reference
    seen = []
    embedding = (
        network.model.get_decoder().embed_tokens
        if network.kind == "seq2seq"
        else network.model.get_input_embeddings()
    )
    embedding.register_forward_pre_hook(lambda _, args: seen.append(tuple(args[0].shape)))
    return seen


def test_the_prompt_of_a_group_is_read_once():
    algorithm, reads = algorithm_and_reads("ppo", group_size=4)
    batch = algorithm.collect()
    assert reads[0] == (2, int(batch.prompt_mask.sum(dim=1).max()))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("name", "settings", "passes"),
    [("a2c", {}, 1), ("ppo", {"epochs": 3, "minibatch_episodes": 4}, 3), ("nlpo", {}, 2)],
)
def test_an_update_reads_each_token_once_a_pass(family, name, settings, passes):
    algorithm, reads = algorithm_and_reads(name, family, **settings)
    batch = algorithm.collect()
    reads.clear()
    algorithm.update(batch)
    width = batch.response_ids.shape[1] - (family == "gpt2")
    width += batch.prompt_ids.shape[1] if family == "gpt2" else 0
    assert tokens_read(reads) <= passes * len(batch) * width
    minibatch = settings.get("minibatch_episodes", 4 if name == "nlpo" else len(batch))
    assert len(reads) == passes * math.ceil(len(batch) / minibatch)


@pytest.mark.parametrize("family", FAMILIES)
def test_trpos_update_is_one_forward_a_product_and_one_a_try(family):
    algorithm, reads = algorithm_and_reads(
        "trpo", family, fisher_fraction=0.5, conjugate_gradient_steps=3
    )
    batch = algorithm.collect()
    reads.clear()
    stats = algorithm.update(batch)
    whole = [rows for rows, _ in reads if rows == len(batch)]
    share = [rows for rows, _ in reads if rows == len(batch) // 2]
    # The gradient, the states of the old policy, and one for each step length; the critic has the last one's states.
    assert len(whole) == 2 + stats.terms["backtracks"]
    # The graph that all products share, and one forward-mode pass for each.
    assert len(share) == 1 + 3
    assert len(reads) == len(whole) + len(share)


@pytest.mark.parametrize("name", ["ppo", "trpo", "a2c"])
def test_logits_are_made_at_the_chosen_tokens_only(name):
    """Prompts are longer than responses, and no tensor is as large as the logits of whole rows."""
    policy = make_policy("gpt2", max_response_tokens=4)
    vocabulary = policy.network.width
    task = toy_task(max_response_tokens=4)
    algorithm = make_algorithm(name, policy=policy, task=task, temperature=4.0)
    with Tensors() as made:
        batch = algorithm.collect()
        algorithm.update(batch)
    rows, columns = batch.prompt_ids.shape
    assert columns > 4
    flat = sum(parameter.numel() for parameter in policy.model.parameters())  # TRPO's vectors
    sizes = {shape: size for shape, size in made.sizes.items() if size != flat}
    largest = max(size for shape, size in sizes.items() if shape[-1:] == (vocabulary,))
    weights = policy.network.head.weight.numel()
    assert largest <= max(batch.tokens * vocabulary, weights, rows * vocabulary)
    assert largest < rows * (columns + batch.response_ids.shape[1]) * vocabulary / 2


@pytest.mark.parametrize("family", FAMILIES)
def test_python_calls_of_a_decoding_step_do_not_grow_with_the_batch(family):
    calls = {}
    for episodes in (4, 32):
        algorithm, reads = algorithm_and_reads("ppo", family, episodes_per_iteration=episodes)
        prompts = algorithm.collector.core.sample_prompts(episodes)
        algorithm.collector._generate(prompts)  # what is made on first use
        reads.clear()
        counted = Counter()
        sys.setprofile(lambda _frame, event, _argument, counted=counted: counted.update([event]))
        try:
            algorithm.collector._generate(prompts)
        finally:
            sys.setprofile(None)
        calls[episodes] = counted["call"] / len(reads)
    assert calls[32] < 1.25 * calls[4]
    assert calls[32] < CALLS_PER_STEP[family]


CALLS_PER_STEP = {"gpt2": 950, "t5": 1700}
"""Python calls of one step of a two-layer model, most of them in Transformers; about 1.5 times what it was."""


def test_the_top_p_set_is_found_without_sorting_the_vocabulary_with_its_order():
    policy = make_policy("gpt2")
    mask = TopPMask(policy.network, 1, top_p=0.9)
    logits = torch.randn(3, 4, 45)

    class NoSort(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            assert "sort" not in str(function)
            return function(*args, **(kwargs or {}))

    with NoSort():
        mask.allowed(logits)
