import numpy as np
import pytest
import torch
from fixtures.policies import tiny_policy
from fixtures.toy import EOS_ID
from torch.distributions import Categorical

from lmrl_bench.data.vocabulary import Vocabulary
from lmrl_bench.models.behavior import Behavior, TopPFilter, pack_sets, unpack_sets
from lmrl_bench.models.scoring import entropy_of

LOGITS = torch.tensor([[2.0, 1.0, 0.0, -1.0], [0.0, 3.0, 0.0, 0.0]])


def behavior(**changes):
    size = changes.pop("vocabulary_size", 4)
    vocabulary = Vocabulary.contiguous(size, eos_id=1)
    return Behavior(**({"temperature": 1.0, "vocabulary": vocabulary} | changes))


def test_changes_nothing_by_default():
    assert torch.equal(behavior()(LOGITS, torch.tensor([0, 5])), LOGITS)


def test_temperature_divides_logits():
    assert torch.equal(behavior(temperature=0.5)(LOGITS, torch.tensor([0, 0])), LOGITS / 0.5)


def test_outputs_beyond_the_vocabulary_and_early_eos_are_impossible():
    result = behavior(vocabulary_size=3, min_tokens=2)(LOGITS, torch.tensor([1, 2]))
    expected = LOGITS.clone()
    expected[:, 3] = expected[0, 1] = -torch.inf
    assert torch.equal(result, expected)


def test_allowed_tokens_are_combined_with_the_rest():
    allowed = torch.tensor([[True, True, False, True], [True, False, True, True]])
    result = behavior(vocabulary_size=3, min_tokens=1)(LOGITS, torch.tensor([0, 1]), allowed)
    assert (result == -torch.inf).tolist() == [
        [False, True, True, True],
        [False, True, False, True],
    ]


def test_works_on_any_leading_shape():
    logits = torch.randn(2, 3, 4)
    positions = torch.arange(3).expand(2, 3)
    result = behavior(min_tokens=1)(logits, positions)
    assert (result[:, 0, 1] == -torch.inf).all()
    assert torch.isfinite(result[:, 1:]).all()


@pytest.fixture(scope="module")
def network():
    return tiny_policy("gpt2").network


@pytest.mark.parametrize(
    ("top_p", "keep", "expected"),
    [(0.5, 1, {0}), (0.6, 1, {0}), (0.61, 1, {0, 2}), (0.95, 1, {0, 2, 3}), (0.1, 2, {0, 2})],
)
def test_top_p_keeps_the_smallest_set_and_eos(network, top_p, keep, expected):
    mask = TopPFilter(network, EOS_ID, top_p=top_p, min_tokens_to_keep=keep)
    probabilities = torch.tensor([[0.6, 0.01, 0.3, 0.06, 0.03]])
    allowed = mask.allowed(probabilities.log())
    assert set(allowed[0].nonzero().squeeze(1).tolist()) == expected | {EOS_ID}


def test_top_p_one_allows_all(network):
    mask = TopPFilter(network, EOS_ID, top_p=1.0)
    assert mask.allowed(100 * torch.randn(5, 50)).all()


@pytest.mark.parametrize(
    "changes", [{"top_p": 0.0}, {"top_p": 1.1}, {"top_p": 0.5, "min_tokens_to_keep": 0}]
)
def test_senseless_masks_are_refused(network, changes):
    with pytest.raises(ValueError, match="top_p"):
        TopPFilter(network, EOS_ID, **changes)


def test_mask_is_a_frozen_copy_until_refreshed():
    policy = tiny_policy("t5")
    mask = TopPFilter(policy.network, EOS_ID, top_p=0.5)
    before = {name: value.clone() for name, value in mask.state_dict().items()}
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(1.0)
    assert all(torch.equal(value, before[name]) for name, value in mask.state_dict().items())
    assert not any(parameter.requires_grad for parameter in mask.parameters())
    assert not mask.train().model.training
    mask.refresh(policy.network)
    for name, value in policy.model.state_dict().items():
        assert torch.equal(mask.model.state_dict()[name], value)


def test_entropy_of_impossible_tokens_is_zero_and_differentiable():
    logits = torch.tensor([[0.5, 0.1, -0.3, 0.0]], requires_grad=True)
    masked = logits.masked_fill(torch.tensor([False, True, False, False]), -torch.inf)
    entropy = entropy_of(masked.log_softmax(dim=-1))
    expected = Categorical(logits=logits[:, [0, 2, 3]]).entropy()
    torch.testing.assert_close(entropy, expected)
    gradient = torch.autograd.grad(entropy.sum(), logits)[0]
    reference = torch.autograd.grad(expected.sum(), logits)[0]
    torch.testing.assert_close(gradient, reference)


def plain_top_p(logits, top_p, keep):
    """The definition: sort with the order, keep until the mass is reached, put back."""
    probabilities, order = logits.softmax(dim=-1).sort(dim=-1, descending=True, stable=True)
    kept = probabilities.cumsum(dim=-1) - probabilities < top_p
    kept[..., :keep] = True
    allowed = torch.zeros_like(kept).scatter(-1, order, kept)
    allowed[..., EOS_ID] = True
    return allowed


@pytest.mark.parametrize("seed", range(24))
def test_top_p_is_its_definition_with_ties_and_impossible_tokens(network, seed):
    rng = torch.Generator().manual_seed(seed)
    width = (4, 50, 600)[seed % 3]
    logits = (0.5, 2.0, 5.0)[seed // 3 % 3] * torch.randn(3, 5, width, generator=rng)
    if seed % 2:
        logits = logits.round()  # many tokens are equally probable
    if seed % 4 > 1:
        logits[..., 2] = -torch.inf
    for top_p, keep in ((0.1, 1), (0.5, 3), (0.9, 1), (0.999, 10)):
        mask = TopPFilter(network, EOS_ID, top_p=top_p, min_tokens_to_keep=keep)
        assert torch.equal(mask.allowed(logits), plain_top_p(logits, top_p, keep))


@pytest.mark.parametrize("width", [1, 7, 8, 45, 50])
def test_packed_sets_are_numpys_bits_and_come_back(width):
    sets = torch.rand(3, 4, width, generator=torch.Generator().manual_seed(width)) < 0.4
    packed = pack_sets(sets)
    assert packed.dtype == torch.uint8
    assert np.array_equal(packed.numpy(), np.packbits(sets.numpy(), axis=-1, bitorder="little"))
    assert torch.equal(unpack_sets(packed, width), sets)
