"""Packing: every row once, within the budget, and no cut of the sorted rows is less work."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lmrl_bench.speedups import packing
from lmrl_bench.speedups.packing import pack_rows

WIDTH = 9


def rows_of(lengths):
    """Prompts of the given lengths and content, on the left padding of other content in every row."""
    prompts, completions, contents = zip(*lengths, strict=True)
    sizes = torch.tensor(prompts)[:, None]
    mask = torch.arange(max(prompts))[None, :] >= max(prompts) - sizes
    padding = -torch.arange(len(lengths))[:, None].expand(mask.shape)
    ids = torch.where(mask, torch.tensor(contents)[:, None].expand(mask.shape), padding)
    return ids, mask, torch.tensor(completions)


def work(lengths, group):
    """Tokens that the policy reads of a group, and its call."""
    prompts, completions, contents = zip(*(lengths[row] for row in group), strict=True)
    distinct = len(set(zip(prompts, contents, strict=True)))
    return distinct * max(prompts) + len(group) * max(completions) + packing.CALL_TOKENS


def padded(lengths, group):
    return len(group) * sum(max(lengths[row][side] for row in group) for side in (0, 1))


ROWS = st.lists(
    st.tuples(st.integers(1, WIDTH), st.integers(0, WIDTH), st.integers(1, 2)), min_size=1
)


@settings(deadline=None, max_examples=60)
@given(ROWS, st.integers(1, 90))
def test_every_row_once_and_within_the_budget(lengths, budget):
    groups = [group.tolist() for group in pack_rows(*rows_of(lengths), budget)]
    assert sorted(itertools.chain(*groups)) == list(range(len(lengths)))
    for group in groups:
        assert len(group) == 1 or padded(lengths, group) <= budget


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(st.integers(1, WIDTH), st.integers(0, WIDTH), st.just(1)), min_size=1, max_size=8
    ),
    st.integers(20, 90),
    st.sampled_from([1, 10, 100]),
)
def test_no_cut_of_the_rows_by_length_is_less_work(lengths, budget, call):
    """All of them are tried."""
    order = sorted(range(len(lengths)), key=lambda row: -sum(lengths[row][:2]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "CALL_TOKENS", call)
        found = sum(work(lengths, group.tolist()) for group in pack_rows(*rows_of(lengths), budget))
        for cuts in itertools.product([False, True], repeat=len(order) - 1):
            groups = [[order[0]]]
            for row, cut in zip(order[1:], cuts, strict=True):
                groups = [*groups, [row]] if cut else [*groups[:-1], [*groups[-1], row]]
            if all(len(group) == 1 or padded(lengths, group) <= budget for group in groups):
                assert found <= sum(work(lengths, group) for group in groups)


def test_ragged_completions_are_mostly_no_padding():
    rng = torch.Generator().manual_seed(0)
    completions = (-16 * torch.rand(64, generator=rng).log()).long().clamp(1, 48)
    lengths = [
        (12 + row % 11, completion, row) for row, completion in enumerate(completions.tolist())
    ]
    groups = [group.tolist() for group in pack_rows(*rows_of(lengths), 8192)]
    read = sum(padded(lengths, group) for group in groups)
    real = sum(prompt + completion for prompt, completion, _ in lengths)
    assert read < 1.4 * real
    assert padded(lengths, range(64)) > 1.8 * real
    assert len(groups) <= 6


@pytest.mark.parametrize(
    ("prompt", "completions", "torn"),
    [(100, (8, 7, 6, 5, 4, 3, 2, 1), False), (2, (41, 1, 1, 1, 1, 1, 1, 1), True)],
)
def test_a_group_stays_together_where_its_prompt_is_more_than_its_padding(
    prompt, completions, torn
):
    lengths = [(prompt, completions[row % 8], row // 8) for row in range(64)]
    groups = [group.tolist() for group in pack_rows(*rows_of(lengths), 24 * (prompt + 41))]
    prompts_read = sum(len({row // 8 for row in group}) for group in groups)
    assert (prompts_read > 8) == torn


def test_equal_rows_make_one_group_within_the_budget():
    lengths = [(3, 5, row) for row in range(8)]
    assert len(pack_rows(*rows_of(lengths), 1000)) == 1
    assert [len(group) for group in pack_rows(*rows_of(lengths), 32)] == [4, 4]
    assert (
        pack_rows(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.bool), torch.zeros(0), 9) == []
    )
