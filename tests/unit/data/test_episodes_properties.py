"""Batches of episodes of any lengths: what selecting rows and trimming padding keeps, and what shapes are refused."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lmrl_bench.data.episodes import Completions, Episodes, Prompts, TokenBatch

SHAPES = st.lists(st.tuples(st.integers(1, 6), st.integers(1, 7)), min_size=1, max_size=6)


def batch_of(shapes, extra=2):
    """Returns episodes with prompts and completions of the given lengths, all numbers different, ids at padding too."""
    rng = torch.Generator().manual_seed(len(shapes))
    rows, prompts = len(shapes), torch.tensor([prompt for prompt, _ in shapes]).unsqueeze(1)
    completions = torch.tensor([completion for _, completion in shapes]).unsqueeze(1)
    n_prompt, n_completion = int(prompts.max()) + extra, int(completions.max()) + extra
    fields = {
        name: torch.randn(rows, n_completion, generator=rng) for name in Episodes.TOKEN_FIELDS
    }
    tokens = TokenBatch(
        prompt_ids=torch.randint(0, 50, (rows, n_prompt), generator=rng),
        prompt_mask=torch.arange(n_prompt) >= n_prompt - prompts,
        completion_ids=torch.randint(0, 50, (rows, n_completion), generator=rng),
        completion_mask=torch.arange(n_completion) < completions,
    )
    terminated = torch.arange(rows) % 2 == 0
    return Episodes(
        tokens=tokens,
        scores=torch.randn(rows, generator=rng),
        terminated=terminated,
        truncated=~terminated,
        group_ids=torch.arange(rows) // 2,
        sample_ids=tuple(f"s{row}" for row in range(rows)),
        texts=tuple(f"t{row}" for row in range(rows)),
        components={"part": torch.randn(rows, generator=rng)},
        **fields,
    )


def both(episodes, name):
    """Returns a field of the episodes or of their tokens."""
    return getattr(episodes if hasattr(episodes, name) else episodes.tokens, name)


def test_the_whole_batch_moves_to_a_device():
    batch = batch_of([(2, 3), (4, 1)])
    moved = batch.to(torch.device("meta"))
    for field in (*dataclasses.fields(moved), *dataclasses.fields(moved.tokens)):
        if field.name == "tokens":
            continue
        value, before = both(moved, field.name), both(batch, field.name)
        for tensor in value.values() if isinstance(value, dict) else [value]:
            if isinstance(tensor, torch.Tensor):
                assert tensor.is_meta, field.name
            else:
                assert tensor == before


@settings(max_examples=60, deadline=None)
@given(SHAPES, st.data())
def test_selecting_rows_keeps_every_real_token(shapes, data):
    batch = batch_of(shapes)
    rows = data.draw(st.lists(st.integers(0, len(shapes) - 1), min_size=1, max_size=8))
    for trim in (True, False):
        part = batch.select(rows, trim=trim)
        assert len(part) == len(rows)
        for place, row in enumerate(rows):
            kept, whole = part.tokens.prompt_mask[place], batch.tokens.prompt_mask[row]
            assert torch.equal(
                part.tokens.prompt_ids[place][kept], batch.tokens.prompt_ids[row][whole]
            )
            kept, whole = part.mask[place], batch.mask[row]
            for name in ("completion_ids", *batch.TOKEN_FIELDS):
                one, other = both(part, name)[place][kept], both(batch, name)[row][whole]
                assert torch.equal(one, other), name
            assert part.scores[place] == batch.scores[row]
            assert part.components["part"][place] == batch.components["part"][row]
            assert (part.sample_ids[place], part.texts[place]) == (f"s{row}", f"t{row}")
            assert part.group_ids[place] == row // 2
        if trim:
            assert part.tokens.prompt_mask.any(dim=0).all()
            assert part.mask.any(dim=0).all()


@settings(max_examples=40, deadline=None)
@given(SHAPES, st.data())
def test_selecting_in_two_steps_is_selecting_at_once(shapes, data):
    batch = batch_of(shapes)
    first = data.draw(st.lists(st.integers(0, len(shapes) - 1), min_size=1, max_size=6))
    second = data.draw(st.lists(st.integers(0, len(first) - 1), min_size=1, max_size=6))
    one, other = batch.select(first).select(second), batch.select([first[row] for row in second])
    for field in (*dataclasses.fields(Episodes), *dataclasses.fields(TokenBatch)):
        left, right = both(one, field.name), both(other, field.name)
        if isinstance(left, torch.Tensor):
            assert torch.equal(left, right), field.name


@settings(max_examples=40, deadline=None)
@given(SHAPES)
def test_lengths_count_tokens_not_columns(shapes):
    """Pitfalls B7, E5: environment tokens inside a completion belong to its length and not to the policy's tokens."""
    batch = batch_of(shapes)
    assert batch.lengths.tolist() == [completion for _, completion in shapes]
    assert batch.tokens.n_tokens == sum(completion for _, completion in shapes)
    mask = batch.mask.clone()
    inner = [row for row, (_, completion) in enumerate(shapes) if completion > 1]
    mask[inner, 0] = False
    holed = batch.replace(tokens=dataclasses.replace(batch.tokens, completion_mask=mask))
    assert holed.lengths.tolist() == batch.lengths.tolist()
    assert holed.tokens.n_tokens == batch.tokens.n_tokens - len(inner)


IDS = tuple(field.name for field in dataclasses.fields(TokenBatch) if field.name != "allowed")


@pytest.mark.parametrize("name", [*IDS, *Episodes.TOKEN_FIELDS, *Episodes.EPISODE_FIELDS])
def test_a_field_of_another_shape_is_refused(name):
    """Pitfall A10: nothing is broadcast or cut in silence."""
    batch = batch_of([(2, 3), (4, 5), (1, 1)])
    value = both(batch, name)
    wrong = [value[:2], value[:1]]
    wrong += [value[:, :-1], value[:, :1]] if value.ndim == 2 else [value.unsqueeze(1)]
    for changed in wrong:
        whole = batch.tokens if name in IDS else batch
        with pytest.raises(ValueError, match=r"has shape .*, expected|prompts for"):
            dataclasses.replace(whole, **{name: changed})


def test_completions_and_prompts_of_another_shape_are_refused():
    ids, mask, ended = torch.zeros(2, 3), torch.ones(2, 3, dtype=torch.bool), torch.ones(2).bool()
    good = {"ids": ids, "mask": mask, "logprobs": ids, "terminated": ended, "truncated": ~ended}
    Completions(**good)
    for name, value in good.items():
        with pytest.raises(ValueError, match="expected"):
            Completions(**good | {name: value[:, :2] if value.ndim == 2 else value[:1]})
    with pytest.raises(ValueError, match="values has shape"):
        Completions(**good, values=ids[:, :1])
    groups = torch.arange(2)
    Prompts(ids, mask, ("a", "b"), groups)
    for parts in ((ids, mask[:, :2], ("a", "b"), groups), (ids, mask, ("a", "b"), groups[:1])):
        with pytest.raises(ValueError, match="expected"):
            Prompts(*parts)
    with pytest.raises(ValueError, match="1 sample ids for 2 prompts"):
        Prompts(ids, mask, ("a",), groups)
