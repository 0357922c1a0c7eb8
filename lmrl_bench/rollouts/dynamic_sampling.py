"""Dynamic sampling: draws further prompts until every group has unequal scores.

Yu et al. 2025, "DAPO" (arXiv 2503.14476), section 3.2. A group of equal scores has no advantage and no gradient.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from lmrl_bench.data.episodes import Completions, Prompts
from lmrl_bench.envs.core import Outcome
from lmrl_bench.rollouts.collectors import Clock, Collection, OnPolicyCollector


@dataclass(frozen=True)
class _Draw:
    """Sampled and rewarded completions, whole groups of them."""

    prompts: Prompts
    completions: Completions
    outcome: Outcome

    def select(self, index: Tensor) -> _Draw:
        """Returns the episodes `index` `(N,)`."""
        done, outcome, numbers = self.completions, self.outcome, index.tolist()
        prompts = Prompts(
            self.prompts.ids[index],
            self.prompts.mask[index],
            tuple(self.prompts.sample_ids[number] for number in numbers),
            self.prompts.group_ids[index],
        )
        completions = Completions(
            done.ids[index],
            done.mask[index],
            done.logprobs[index],
            done.terminated[index],
            done.truncated[index],
            None if done.values is None else done.values[index],
            None if done.allowed is None else done.allowed[index],
        )
        dense = outcome.token_rewards
        return _Draw(
            prompts,
            completions,
            Outcome(
                texts=tuple(outcome.texts[number] for number in numbers),
                scores=outcome.scores[index],
                components={name: part[index] for name, part in outcome.components.items()},
                token_rewards=None if dense is None else dense[index],
                info={
                    name: [facts[number] for number in numbers]
                    for name, facts in outcome.info.items()
                },
            ),
        )


class DynamicSamplingCollector:
    """Samples until an iteration is filled with groups of unequal scores.

    Args:
        collector: Samples and scores.
        max_rounds: Draws per iteration. After the last one, groups of equal scores fill what is missing, so that an
            iteration always has its episodes.
    """

    def __init__(self, collector: OnPolicyCollector, max_rounds: int) -> None:
        self.collector = collector
        self.max_rounds = max_rounds

    @torch.no_grad()
    def collect(self) -> Collection:
        """Returns the iteration's episodes; `n_tokens` and `n_episodes` count the dropped ones too."""
        size = self.collector.plan.group_size
        wanted = self.collector.plan.episodes // size
        clock, kept, spare = Clock(), list[_Draw](), list[_Draw]()
        n_tokens = n_groups = 0
        for _ in range(self.max_rounds):
            missing = wanted - sum(len(part.prompts) for part in kept) // size
            if missing == 0:
                break
            draw = _Draw(*self.collector.sample(missing, clock))
            n_groups += missing
            n_tokens += int(draw.completions.lengths.sum())
            unequal = _unequal(draw.outcome, size)
            kept.append(draw.select(unequal.nonzero().squeeze(1)))
            spare.append(draw.select((~unequal).nonzero().squeeze(1)))
        have = sum(len(part.prompts) for part in kept)
        whole = _joined([*kept, *spare], size, self.collector.policy.network.pad_id)
        whole = whole.select(torch.arange(wanted * size))
        collection = self.collector.scored(whole.prompts, whole.completions, whole.outcome, clock)
        return replace(
            collection,
            n_tokens=n_tokens,
            n_episodes=n_groups * size,
            info={"kept_share": have / (n_groups * size)},
        )


def _unequal(outcome: Outcome, size: int) -> Tensor:
    """Returns `(B,)` bool: whether the scores of an episode's group, `size` rows next to each other, differ."""
    groups = outcome.totals.view(-1, size)
    return (groups != groups[:, :1]).any(dim=1).repeat_interleave(size)


def _joined(draws: list[_Draw], size: int, pad_id: int) -> _Draw:
    """Returns all episodes in one draw, padded to the longest, with groups numbered anew."""
    draws = [draw for draw in draws if len(draw.prompts)]
    left = max(draw.prompts.ids.shape[1] for draw in draws)
    right = max(draw.completions.ids.shape[1] for draw in draws)

    def wide(value: Tensor, *, prompt: bool = False, fill: float = 0.0) -> Tensor:
        missing = (left if prompt else right) - value.shape[1]
        # `pad` counts from the last dimension; sets of allowed tokens have one more.
        amounts = (0, 0) * (value.dim() - 2) + ((missing, 0) if prompt else (0, missing))
        return pad(value, amounts, value=fill)

    def columns(name: str, fill: float = 0.0) -> Tensor | None:
        values = [getattr(draw.completions, name) for draw in draws]
        return None if values[0] is None else torch.cat([wide(v, fill=fill) for v in values])

    def always(value: Tensor | None) -> Tensor:
        assert value is not None
        return value

    n_episodes = sum(len(draw.prompts) for draw in draws)
    prompts = Prompts(
        torch.cat([wide(draw.prompts.ids, prompt=True, fill=pad_id) for draw in draws]),
        torch.cat([wide(draw.prompts.mask, prompt=True) for draw in draws]),
        tuple(name for draw in draws for name in draw.prompts.sample_ids),
        torch.arange(n_episodes // size).repeat_interleave(size),
    )
    completions = Completions(
        always(columns("ids", pad_id)),
        always(columns("mask")),
        always(columns("logprobs")),
        torch.cat([draw.completions.terminated for draw in draws]),
        torch.cat([draw.completions.truncated for draw in draws]),
        columns("values"),
        columns("allowed"),
    )
    outcomes = [draw.outcome for draw in draws]
    dense = [outcome.token_rewards for outcome in outcomes]
    given = [part for part in dense if part is not None]
    return _Draw(
        prompts,
        completions,
        Outcome(
            texts=tuple(text for outcome in outcomes for text in outcome.texts),
            scores=torch.cat([outcome.scores for outcome in outcomes]),
            components={
                name: torch.cat([outcome.components[name] for outcome in outcomes])
                for name in outcomes[0].components
            },
            token_rewards=torch.cat([wide(part) for part in given]) if given else None,
            info={
                name: [fact for outcome in outcomes for fact in outcome.info[name]]
                for name in outcomes[0].info
            },
        ),
    )
