"""NLPO on a table policy: sets, masked and renormalized probabilities, gradients and lag, by hand.

The mask policy ψ and the policy θ are two tables. What NLPO must draw, score and charge follows
with pencil and paper; it stands below as literal numbers.
"""

from collections import Counter

import pytest
import torch
from fixtures.tables import (
    VOCABULARY,
    A,
    B,
    C,
    D,
    E,
    letter_algorithm,
    letter_task,
    set_table,
    table_of,
    table_policy,
)
from fixtures.toy import EOS_ID
from scipy.stats import chisquare

from lmrl_bench.algorithms.interface import UpdateStats

TOP_P = 0.8
#                 <pad>  </s> <unk>   a     b     c     d     e
MASK_ROWS = {
    A: (0.01, 0.04, 0.01, 0.05, 0.45, 0.30, 0.12, 0.02),  # b .45 c .75 d .87
    B: (0.02, 0.55, 0.02, 0.05, 0.03, 0.30, 0.02, 0.01),  # </s> .55 c .85
    C: (0.01, 0.01, 0.01, 0.01, 0.01, 0.93, 0.01, 0.01),  # c .93
    D: (0.02, 0.06, 0.02, 0.18, 0.18, 0.18, 0.18, 0.18),  # five letters, .90; four hold .72
    E: (0.40, 0.02, 0.35, 0.15, 0.02, 0.02, 0.02, 0.02),  # <pad> .40 <unk> .75 a .90
}
POLICY_ROWS = {
    A: (0.02, 0.10, 0.03, 0.05, 0.20, 0.10, 0.20, 0.30),
    B: (0.05, 0.20, 0.05, 0.03, 0.02, 0.60, 0.03, 0.02),
    C: (0.10, 0.30, 0.10, 0.10, 0.10, 0.10, 0.10, 0.10),
    D: (0.10, 0.10, 0.10, 0.10, 0.10, 0.20, 0.20, 0.10),
    E: (0.10, 0.05, 0.30, 0.05, 0.10, 0.10, 0.10, 0.20),
}
# θ on the set of ψ (EOS always in it), divided by what is kept: .6, .8, .4, .8, .5.
FILTERED = {
    A: {EOS_ID: 1 / 6, B: 1 / 3, C: 1 / 6, D: 1 / 3},
    B: {EOS_ID: 1 / 4, C: 3 / 4},
    C: {EOS_ID: 3 / 4, C: 1 / 4},
    D: {EOS_ID: 1 / 8, A: 1 / 8, B: 1 / 8, C: 1 / 4, D: 1 / 4, E: 1 / 8},
    E: {0: 1 / 5, EOS_ID: 1 / 10, 2: 3 / 5, A: 1 / 10},
}
KEPT = {A: 0.6, B: 0.8, C: 0.4, D: 0.8, E: 0.5}
# The reference is ψ; on its own set it keeps .91, .85, .94, .96, .92.
FILTERED_REFERENCE = {
    A: {EOS_ID: 4 / 91, B: 45 / 91, C: 30 / 91, D: 12 / 91},
    B: {EOS_ID: 55 / 85, C: 30 / 85},
    C: {EOS_ID: 1 / 94, C: 93 / 94},
    D: {EOS_ID: 6 / 96, A: 18 / 96, B: 18 / 96, C: 18 / 96, D: 18 / 96, E: 18 / 96},
    E: {0: 40 / 92, EOS_ID: 2 / 92, 2: 35 / 92, A: 15 / 92},
}
UNIFORM = (1 / VOCABULARY,) * VOCABULARY  # after <pad>, </s> and <unk>: of no interest


def prepared(name="nlpo", episodes=64, **settings):
    """Returns an algorithm whose mask and reference are ψ, and whose policy has moved on to θ."""
    policy = table_policy(table_of(MASK_ROWS, UNIFORM))
    algorithm = letter_algorithm(
        name, policy, letter_task(lambda *_: 0.0), episodes_per_iteration=episodes,
        minibatch_episodes=episodes, epochs=1, top_p=TOP_P, min_tokens_to_keep=1, **settings,
    )  # fmt: skip
    set_table(policy.network, table_of(POLICY_ROWS, UNIFORM))
    return algorithm


def steps(batch):
    """Yields row, column, the token before and the token, where the table is written down."""
    for row, column in batch.mask.nonzero().tolist():
        before = A if column == 0 else int(batch.tokens.completion_ids[row, column - 1])
        if before in FILTERED:
            yield row, column, before, int(batch.tokens.completion_ids[row, column])


def test_probabilities_are_masked_and_renormalized_when_sampled_scored_and_charged():
    algorithm = prepared(episodes=256)
    batch = algorithm.collect().episodes
    with torch.no_grad():
        scored = algorithm.score(batch, entropy=True, full_logits=True)
    logits = dict(zip(map(tuple, batch.mask.nonzero().tolist()), scored.logits, strict=True))
    seen = set()
    for row, column, before, token in steps(batch):
        expected = FILTERED[before]
        assert token in expected
        log = torch.tensor(expected[token]).log()
        for got in (batch.behavior_logprobs, scored.logprobs):
            torch.testing.assert_close(got[row, column], log, atol=1e-5, rtol=0)
        reference = torch.tensor(FILTERED_REFERENCE[before][token]).log()
        torch.testing.assert_close(batch.ref_logprobs[row, column], reference, atol=1e-5, rtol=0)
        whole = torch.zeros(VOCABULARY)
        whole[list(expected)] = torch.tensor(list(expected.values()))
        torch.testing.assert_close(logits[row, column].exp(), whole, atol=1e-6, rtol=0)
        entropy = torch.distributions.Categorical(whole).entropy()
        torch.testing.assert_close(scored.entropy[row, column], entropy, atol=1e-5, rtol=0)
        seen.add(before)
    assert seen == set(FILTERED)


def test_drawn_frequencies_are_those_of_the_masked_distribution():
    batch = prepared(episodes=6000).collect().episodes
    counts = {before: Counter() for before in FILTERED}
    for _, _, before, token in steps(batch):
        counts[before][token] += 1
    for before, expected in FILTERED.items():
        total = sum(counts[before].values())
        assert total > 80
        assert set(counts[before]) <= set(expected)
        observed = [counts[before][token] for token in expected]
        result = chisquare(observed, [total * value for value in expected.values()])
        assert result.pvalue > 1e-3, (before, observed)


def test_the_gradient_of_a_masked_log_probability_is_one_hot_minus_masked_probability():
    """Tokens outside the set get none: only the policy's own distribution on the set moves."""
    algorithm = prepared()
    batch = algorithm.collect().episodes
    drawn = {}  # one row for each pair of tokens
    for row, column, before, token in steps(batch):
        drawn.setdefault((before, token), (row, column))
    assert len(drawn) >= 10
    logprobs = algorithm.score(batch).logprobs
    for (before, token), place in drawn.items():
        (gradient,) = torch.autograd.grad(
            logprobs[place], algorithm.policy.network.head.weight, retain_graph=True
        )
        expected = torch.zeros(VOCABULARY, VOCABULARY)
        for other, probability in FILTERED[before].items():
            expected[other, before] = (other == token) - probability
        torch.testing.assert_close(gradient, expected, atol=1e-6, rtol=0)


def test_the_released_algorithm_draws_from_the_set_and_scores_without_it():
    algorithm = prepared("nlpo-rl4lms", episodes=256)
    rollout = algorithm.collect()
    batch = rollout.episodes
    for row, column, before, token in steps(batch):
        assert token in FILTERED[before]
        expected = torch.tensor(POLICY_ROWS[before][token]).log()
        torch.testing.assert_close(
            batch.behavior_logprobs[row, column], expected, atol=1e-5, rtol=0
        )
    # Sampled and scored differ by −log of the kept mass, at most by that after c.
    assert rollout.sampling_difference == pytest.approx(
        -torch.tensor(KEPT[C]).log().item(), abs=1e-5
    )


def peaked(first, second):
    """A table that gives .45 to each of two tokens, .04 to EOS and the rest to the others, anywhere."""
    row = [0.06 / 5] * VOCABULARY
    row[first] = row[second] = 0.45
    row[EOS_ID] = 0.04
    return table_of({}, row)


def test_the_mask_in_force_is_the_policy_of_k_iterations_ago():
    """k = 2. The update is replaced by the next table, so that each iteration's sets are known."""
    tables = [peaked(A, B), peaked(B, C), peaked(C, D), peaked(D, E), peaked(E, A), peaked(A, C)]
    # Iterations 1 and 2 see the start; 3 and 4 what the policy was after 2; 5 what it was after 4.
    sets = [{A, B}, {A, B}, {C, D}, {C, D}, {E, A}]
    policy_sets = [{A, B}, {B, C}, {C, D}, {D, E}, {E, A}]
    policy = table_policy(tables[0], max_completion_tokens=4)
    algorithm = letter_algorithm(
        "nlpo", policy, letter_task(lambda *_: 0.0, max_completion_tokens=4), total_tokens=10**6,
        episodes_per_iteration=64, minibatch_episodes=64, top_p=TOP_P, filter_update_iterations=2,
    )  # fmt: skip
    seen = []

    def next_table(batch):
        seen.append(batch)
        set_table(policy.network, tables[len(seen)])
        return UpdateStats(terms={}, optimizer_steps=0, gradient_norm=0.0)

    algorithm.update = next_table
    for _ in sets:
        algorithm.learn(algorithm.tokens + 1)
    assert len(seen) == len(sets)
    for batch, kept, peak in zip(seen, sets, policy_sets, strict=True):
        drawn = batch.tokens.completion_ids[batch.mask]
        assert set(drawn.tolist()) == kept | {EOS_ID}
        weights = {token: 0.45 if token in peak else 0.06 / 5 for token in kept} | {EOS_ID: 0.04}
        total = sum(weights.values())
        expected = torch.tensor([weights[token] / total for token in drawn.tolist()]).log()
        torch.testing.assert_close(batch.behavior_logprobs[batch.mask], expected, atol=1e-5, rtol=0)
