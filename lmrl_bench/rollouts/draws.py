"""Draws: completions with their prompts and what the reward made of them; they are selected and joined as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from lmrl_bench.data.episodes import Completions, Prompts
from lmrl_bench.envs.core import Outcome


@dataclass(frozen=True)
class Draw:
    """Sampled and rewarded completions, whole groups of them."""

    prompts: Prompts
    completions: Completions
    outcome: Outcome

    def select(self, index: Tensor) -> Draw:
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
        return Draw(
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


def joined(draws: Sequence[Draw], group_size: int, pad_id: int) -> Draw:
    """Returns all episodes in one draw, padded to the longest; groups are numbered again."""
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
        torch.arange(n_episodes // group_size).repeat_interleave(group_size),
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
    return Draw(
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
