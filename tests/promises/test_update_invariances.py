"""Invariances of the update, for all four families and every algorithm that acts.

Amount and side of padding, order of episodes and groups, batch size, split into micro-batches, garbage
after the end, text that the environment inserted, threads.
`tests/unit/algorithms/test_invariances.py` and `tests/promises/test_logprobs.py` have the rest.
"""

import math

import pytest
import torch
from fixtures.policies import FAMILIES, generate, ragged_prompts, score, tiny_policy
from fixtures.tables import D, letter_algorithm, letter_task, own_acting, table_of, table_policy
from fixtures.toy import PAD_ID, toy_samples, toy_task, toy_tokenizer
from fixtures.training import changed, largest_difference, make_algorithm, weights_of

import lmrl_bench.models.scoring as scoring
from lmrl_bench.data.episodes import Prompts, TokenBatch
from lmrl_bench.data.tokenization import TextCodec

LENGTHS = (8, 3, 1, 5, 2, 8, 6, 4)
# One minibatch and one pass, so that the order in which an algorithm draws minibatches plays no part.
ONE_MINIBATCH = {
    "epochs": 1, "minibatch_episodes": 8, "fisher_fraction": 1.0, "critic_epochs": 1,
    "critic_minibatch_episodes": 8,
}  # fmt: skip


def algorithm_of(name, family="gpt2", **settings):
    made = make_algorithm(name, family=family, learning_rate=1e-3)
    known = type(made.config).model_fields
    chosen = {key: value for key, value in (ONE_MINIBATCH | settings).items() if key in known}
    return make_algorithm(name, family=family, learning_rate=1e-3, **chosen)


def ragged(batch):
    """The batch with its completions cut to many lengths, and random rewards; what the policy said stays true."""
    mask = batch.mask & (
        torch.arange(batch.tokens.completion_ids.shape[1]) < torch.tensor(LENGTHS)[:, None]
    )
    fields = {name: getattr(batch, name).masked_fill(~mask, 0.0) for name in batch.TOKEN_FIELDS}
    rng = torch.Generator().manual_seed(3)
    fields["rewards"] = torch.randn(mask.shape, generator=rng).masked_fill(~mask, 0.0)
    return changed(batch, completion_mask=mask, **fields)


def estimated(algorithm, batch):
    """The batch with the advantages and returns that the algorithm finds for it now."""
    advantages, returns = algorithm.advantages(batch)
    return batch.replace(advantages=advantages, returns=returns)


def updated(name, change=lambda batch: batch, *, stays=False, **settings):
    """Collects, cuts, changes the batch, updates; returns the weights and the numbers.

    Args:
        stays: Whether the change leaves what the algorithm estimates from the batch as it was.
    """
    algorithm = algorithm_of(name, **settings)
    batch = estimated(algorithm, ragged(algorithm.collect().episodes))
    # RAFT keeps an episode or leaves it out; the others must weigh the tokens in many ways.
    assert len(batch.advantages[batch.mask].unique()) >= (2 if name == "raft" else 5)
    batch = change(batch)
    if stays:
        assert_estimates_stay(algorithm, batch)
    return weights_of(algorithm.policy), algorithm.update(batch), weights_of(algorithm.policy)


def assert_estimates_stay(algorithm, batch):
    again, mask = estimated(algorithm, batch), batch.mask
    for field in ("advantages", "returns"):
        torch.testing.assert_close(getattr(again, field)[mask], getattr(batch, field)[mask])


def assert_same_update(name, one, other):
    """The same weights; and the same gradient and terms, whose scale Adam's first step would hide."""
    (_, stats, after), (_, other_stats, other_after) = one, other
    assert largest_difference(one[0], after) > 1e-4
    # TRPO's conjugate gradient multiplies rounding; its steps are of the order 1e-2.
    assert largest_difference(after, other_after) < (2e-5 if name == "trpo" else 2e-6)
    assert other_stats.gradient_norm == pytest.approx(stats.gradient_norm, rel=1e-4)
    assert other_stats.terms == pytest.approx(dict(stats.terms), rel=1e-3, abs=1e-5)


MATRIX = [
    *((name, "gpt2") for name in own_acting()),
    *(("a2c", family) for family in FAMILIES if family != "gpt2"),
    ("trpo", "t5"),
]


@pytest.mark.parametrize(("name", "family"), MATRIX)
def test_the_split_into_micro_batches_changes_nothing(name, family):
    """One row at a time, a few, or all at once: the same step (pitfall D2)."""
    whole = updated(name, family=family)
    for tokens in (1, 50):
        assert_same_update(name, whole, updated(name, family=family, micro_batch_tokens=tokens))


def wider(batch):
    """More padding on both sides, with other ids in it."""
    pad = torch.nn.functional.pad
    wide = {name: pad(getattr(batch, name), (0, 3)) for name in batch.TOKEN_FIELDS}
    return changed(
        batch,
        completion_mask=pad(batch.mask, (0, 3)),
        completion_ids=pad(batch.tokens.completion_ids, (0, 3), value=7),
        prompt_ids=pad(
            batch.tokens.prompt_ids.masked_fill(~batch.tokens.prompt_mask, 9), (2, 0), value=5
        ),
        prompt_mask=pad(batch.tokens.prompt_mask, (2, 0)),
        allowed=None if batch.tokens.allowed is None else pad(batch.tokens.allowed, (0, 0, 0, 3)),
        **wide,
    )


def reordered(batch):
    """Other order of the episodes; the members of a group are torn apart."""
    return batch.select([3, 1, 7, 0, 2, 6, 5, 4], trim=False)


@pytest.mark.parametrize(("name", "family"), MATRIX)
def test_padding_and_the_order_of_episodes_and_groups_change_nothing(name, family):
    plain = updated(name, family=family, group_size=2)
    for change in (wider, reordered):
        other = updated(name, change, stays=True, family=family, group_size=2)
        assert_same_update(name, plain, other)


def with_environment_text(batch):
    """Two tokens of each long completion become the environment's, with garbage in every field."""
    inside = torch.zeros_like(batch.mask)
    inside[:, 2:4] = batch.lengths[:, None] > 4
    mask = batch.mask & ~inside
    assert inside.any()
    return changed(batch, completion_mask=mask), inside


def dirty(batch, where):
    names = batch.TOKEN_FIELDS
    return batch.replace(
        **{name: getattr(batch, name).masked_fill(where, math.nan) for name in names}
    )


@pytest.mark.parametrize(("name", "family"), MATRIX)
def test_garbage_after_the_end_and_at_environment_text_is_bit_identical(name, family):
    def clean(batch):
        return with_environment_text(batch)[0]

    def garbage(batch):
        holed, inside = with_environment_text(batch)
        after = torch.arange(batch.tokens.completion_ids.shape[1]) >= batch.lengths[:, None]
        noise = torch.randint(2, 45, after.shape, generator=torch.Generator().manual_seed(0))
        ids = torch.where(after, noise, holed.tokens.completion_ids)
        return dirty(changed(holed, completion_ids=ids), after | inside)

    before, numbers, one = updated(name, clean, family=family)
    _, same, other = updated(name, garbage, family=family)
    assert largest_difference(before, one) > 1e-4
    assert numbers == same
    assert all(torch.equal(one[key], other[key]) for key in one)


# -- environment text ------------------------------------------------------------------------------

TABLE = table_of({}, (0.02, 0.18, 0.05, 0.25, 0.10, 0.20, 0.10, 0.10))


def inserted(batch):
    """Behind the first token `t` of every longer completion the environment writes "d t".

    A table policy sees the last token only, so that its next token has the same distribution as without.
    """
    rows, width = batch.tokens.completion_ids.shape
    long = batch.lengths > 1
    after = torch.where(long[:, None], 2, 0)  # by how much what follows moves
    columns = torch.arange(width).expand(rows, -1)
    target = columns + torch.where(columns > 0, after, 0)

    def moved(values, empty=0):
        wide = torch.full((rows, width + 2, *values.shape[2:]), empty, dtype=values.dtype)
        places = target.view(rows, width, *[1] * (values.dim() - 2)).expand_as(values)
        return wide.scatter(1, places, values)

    fields = {name: moved(getattr(batch, name)) for name in batch.TOKEN_FIELDS}
    ids = moved(batch.tokens.completion_ids, PAD_ID)
    ids[long, 1], ids[long, 2] = D, batch.tokens.completion_ids[long, 0]
    for values in fields.values():
        values[long, 1:3] = 5.0
    allowed = None if batch.tokens.allowed is None else moved(batch.tokens.allowed)
    return changed(
        batch, completion_mask=moved(batch.mask), completion_ids=ids, allowed=allowed, **fields
    )


@pytest.mark.parametrize("name", own_acting())
def test_text_that_the_environment_inserts_changes_no_step(name):
    results = []
    for change in (lambda batch: batch, inserted):
        policy = table_policy(TABLE, values=TABLE[0].tolist(), max_completion_tokens=4)
        task = letter_task(
            lambda prompt, text, n, ended: text.count("a") + 0.5 * ended, max_completion_tokens=4
        )
        algorithm = letter_algorithm(
            name, policy, task, learning_rate=1e-2, top_p=0.9, episodes_per_iteration=8,
            group_size=2, max_kl=0.01, **ONE_MINIBATCH,
        )  # fmt: skip
        batch = algorithm.collect().episodes
        assert len(set(batch.lengths.tolist())) > 1
        before = weights_of(policy)
        changed = change(batch)
        assert_estimates_stay(algorithm, changed)
        results.append((before, algorithm.update(changed), weights_of(policy)))
    assert_same_update(name, *results)


# -- generation and scoring ------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_and_order_of_prompts_do_not_change_completions(family, monkeypatch):
    policy, prompts = tiny_policy(family), ragged_prompts(8)
    behavior = policy.make_behavior(temperature=4.0)
    plain = generate(policy, prompts, behavior)
    pad = torch.nn.functional.pad
    ids = pad(prompts.ids.masked_fill(~prompts.mask, 9), (4, 0), value=5)
    wide = Prompts(ids, pad(prompts.mask, (4, 0)), prompts.sample_ids, prompts.group_ids)
    other = generate(policy, wide, behavior)
    assert torch.equal(other.ids, plain.ids)
    torch.testing.assert_close(other.logprobs, plain.logprobs, atol=1e-5, rtol=0)

    order = torch.tensor([3, 1, 7, 0, 2, 6, 5, 4])
    rand = torch.rand
    monkeypatch.setattr(torch, "rand", lambda *shape, **options: rand(*shape, **options)[order])
    moved = generate(policy, prompts.select(order), behavior)
    assert torch.equal(moved.ids, plain.ids[order])
    torch.testing.assert_close(moved.logprobs, plain.logprobs[order], atol=1e-5, rtol=0)


def test_the_side_on_which_a_tokenizer_pads_does_not_matter():
    """A codec pads on the left, whatever the checkpoint's tokenizer is set to."""
    samples, prompts = toy_samples(6), []
    for side in ("left", "right"):
        tokenizer = toy_tokenizer()
        tokenizer.padding_side = side
        codec = TextCodec(tokenizer, max_prompt_tokens=16, max_completion_tokens=8)
        prompts.append(codec.prompts(samples))
    assert torch.equal(prompts[0].ids, prompts[1].ids)
    assert torch.equal(prompts[0].mask, prompts[1].mask)
    assert not prompts[0].mask.all()
    assert prompts[0].mask[:, -1].all()
    for row, sample in enumerate(samples):
        assert prompts[0].ids[row, prompts[0].mask[row]].tolist() == codec.encode(sample)


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_encoders_take_prompts_padded_on_either_side(family):
    policy, prompts = tiny_policy(family), ragged_prompts(8)
    done = generate(policy, prompts)
    plain = score(policy, prompts, done)
    order = (~prompts.mask).int().argsort(dim=1, stable=True)
    right = Prompts(
        prompts.ids.gather(1, order), prompts.mask.gather(1, order), prompts.sample_ids,
        prompts.group_ids,
    )  # fmt: skip
    assert right.mask[:, 0].all()
    scores = score(policy, right, done)
    torch.testing.assert_close(scores.logprobs, plain.logprobs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_how_many_rows_and_logits_are_computed_at_once_does_not_matter(family, monkeypatch):
    policy, prompts = tiny_policy(family), ragged_prompts(8)
    torch.nn.init.normal_(policy.critic.value_head.weight)
    policy.make_ref_policy()
    behavior = policy.make_behavior(min_tokens=3)
    done = generate(policy, prompts, behavior)
    tokens = TokenBatch.of(prompts, done)

    @torch.no_grad()
    def everything():
        scores = policy.score(tokens, behavior)
        reference = policy.score_ref_policy(tokens, behavior)
        return (
            scores.logprobs,
            scores.values,
            scores.entropy,
            reference,
            policy.critic.final_values(tokens),
        )

    whole = everything()
    for rows, logits in [(1, scoring.CHUNK_ELEMENTS), (70, 3 * 50), (4096, 1)]:
        monkeypatch.setattr(scoring, "MICRO_BATCH_TOKENS", rows)
        monkeypatch.setattr(scoring, "CHUNK_ELEMENTS", logits)
        for one, other in zip(whole, everything(), strict=True):
            torch.testing.assert_close(other, one, atol=2e-5, rtol=0)


# -- threads ---------------------------------------------------------------------------------------


def test_two_threads_give_the_numbers_of_one_up_to_rounding():
    """Bit for bit is promised on one thread only; more must not change what is computed."""
    found = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            algorithm = make_algorithm(
                "a2c", task=toy_task(n_rows=64), learning_rate=1e-3, episodes_per_iteration=32
            )
            batch = algorithm.collect().episodes
            stats = algorithm.update(batch)
            found.append((batch, stats, weights_of(algorithm.policy)))
    finally:
        torch.set_num_threads(before)
    (one, stats, weights), (two, other_stats, other_weights) = found
    assert torch.equal(one.tokens.completion_ids, two.tokens.completion_ids)
    torch.testing.assert_close(one.behavior_logprobs, two.behavior_logprobs, atol=1e-5, rtol=0)
    torch.testing.assert_close(one.advantages, two.advantages, atol=1e-5, rtol=0)
    assert stats.gradient_norm == pytest.approx(other_stats.gradient_norm, rel=1e-3)
    assert largest_difference(weights, other_weights) < 1e-4
