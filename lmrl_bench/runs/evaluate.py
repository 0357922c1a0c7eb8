"""Evaluates a policy on a split: one decoding for everybody, its own random stream, nothing of training touched.

The reward is scored by the same core as in training, token rewards included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from lmrl_bench.algorithms.controls import Selection, Written
from lmrl_bench.config.sampling import SamplingConfig
from lmrl_bench.core.seeding import derive_seed
from lmrl_bench.data.episodes import Completions, Prompts, TokenBatch
from lmrl_bench.data.sample import Sample
from lmrl_bench.data.tokenization import TextCodec
from lmrl_bench.envs.core import EpisodeCore, Outcome
from lmrl_bench.metrics.base import Info, MetricResult
from lmrl_bench.metrics.scoring import score
from lmrl_bench.models.behavior import Behavior, TopPFilter
from lmrl_bench.policies.policy import LanguageModelPolicy
from lmrl_bench.records.record import MetricValue, SplitResults
from lmrl_bench.rollouts.draws import Draw
from lmrl_bench.rollouts.engine import RolloutEngine
from lmrl_bench.tasks.spec import Split
from lmrl_bench.tasks.task import Task


@dataclass(frozen=True)
class Evaluation:
    """The numbers of one split under one decoding, and the rows behind them (for samples.parquet).

    Attributes:
        candidate_tokens: Tokens of all candidates where a control picked one of several; else 0.
    """

    results: SplitResults
    rows: list[dict[str, Any]] = field(repr=False)
    candidate_tokens: int = 0


@dataclass(frozen=True)
class Evaluator:
    """Evaluates one policy on one task.

    Args:
        batch_size: prompts decoded together; changes a result by rounding only.
        seed: the run's root seed; sampling has a stream of its own per split.
        sampling: the decoding; default: the task's.
    """

    task: Task
    codec: TextCodec
    policy: LanguageModelPolicy
    batch_size: int
    seed: int
    sampling: SamplingConfig | None = None
    _cores: dict[Split, EpisodeCore] = field(default_factory=dict, init=False, repr=False)

    def __call__(
        self,
        split: Split,
        n: int,
        *,
        greedy: bool = False,
        token_filter: TopPFilter | None = None,
        primary_only: bool = False,
        control: Selection | Written | None = None,
    ) -> Evaluation:
        """Evaluates the first `n` rows of a split.

        Args:
            split: which split.
            n: rows, or all if there are fewer.
            greedy: Use the most probable tokens instead of the declared decoding.
            token_filter: NLPO's token filter, for the policy that acts through it.
            primary_only: leave the other metrics out, which may cost more than the decoding.
            control: Answers in its own way, instead of with one completion of the policy.
        """
        samples = self.task.samples(split)[:n]
        declared = self.sampling or self.task.spec.decoding
        sampling = declared.model_copy(update={"greedy": True} if greedy else {})
        spent = 0
        if isinstance(control, Written):
            draw, kl = self._written(split, samples, control), None
        else:
            # Greedy completions to one prompt are all the same.
            selection = None if sampling.greedy else control
            draw, behavior = self._draw(split, samples, sampling, token_filter, selection)
            if selection is not None:
                spent = int(draw.completions.lengths.sum())
                draw = draw.select(selection.chosen(draw.outcome))
            kl = self._kl(draw, behavior)
        prompts, completions, outcome = draw.prompts, draw.completions, draw.outcome
        spec = self.task.spec.metrics
        metrics = {
            component.key: score(self.task.metric(component.key), outcome.texts, samples)
            for component in ([spec.primary] if primary_only else spec.all())
        }
        results = _results(metrics, outcome, kl, completions)
        rows = _rows(prompts, completions, outcome, metrics)
        return Evaluation(results, rows, spent)

    def _core(self, split: Split) -> EpisodeCore:
        """Returns what scores episodes of the split as training scores them; made once."""
        if split not in self._cores:
            self._cores[split] = EpisodeCore(self.task, self.codec, split=split)
        return self._cores[split]

    def _draw(
        self,
        split: Split,
        samples: Sequence[Sample],
        sampling: SamplingConfig,
        token_filter: TopPFilter | None,
        selection: Selection | None,
    ) -> tuple[Draw, Behavior]:
        """Returns rewarded completions, the candidates for each sample next to each other, and what drew them."""
        candidates = selection.candidates if selection else 1
        rng = torch.Generator().manual_seed(derive_seed(self.seed, "evaluation", split))
        repeated = [sample for sample in samples for _ in range(candidates)]
        prompts, completions, behavior = respond(
            self.task, self.codec, self.policy, repeated, sampling, rng,
            token_filter=token_filter, batch_size=self.batch_size,
        )  # fmt: skip
        outcome = self._core(split).outcome(prompts, completions)
        return Draw(prompts, completions, outcome), behavior

    def _written(self, split: Split, samples: Sequence[Sample], control: Written) -> Draw:
        """Returns the rewarded answers of a control that asks no policy."""
        core = self._core(split)
        completions = control.answers(core, samples)
        return Draw(self.codec.prompts(samples), completions, core.score(samples, completions))

    def _kl(self, draw: Draw, behavior: Behavior) -> float:
        """Returns the mean log-ratio to the initial policy, nats per episode."""
        done = draw.completions
        reference = self.policy.score_ref_policy(TokenBatch.of(draw.prompts, done), behavior)
        log_ratios = ((done.logprobs - reference) * done.mask).sum(dim=1)
        return float(log_ratios.double().mean())


def respond(
    task: Task,
    codec: TextCodec,
    policy: LanguageModelPolicy,
    samples: Sequence[Sample],
    sampling: SamplingConfig,
    rng: torch.Generator,
    *,
    token_filter: TopPFilter | None = None,
    batch_size: int | None = None,
) -> tuple[Prompts, Completions, Behavior]:
    """Returns the encoded prompts, a completion to each within the task's limits, and what drew them."""
    completion = task.spec.completion
    behavior = Behavior(
        temperature=sampling.temperature,
        vocabulary=codec.vocabulary,
        min_tokens=completion.min_tokens,
    )
    prompts = codec.prompts(samples)
    completions = RolloutEngine(policy).generate(
        prompts, sampling, behavior, rng,
        max_tokens=completion.max_tokens, token_filter=token_filter, batch_size=batch_size,
    )  # fmt: skip
    return prompts, completions, behavior


def _results(
    metrics: dict[str, MetricResult],
    outcome: Outcome,
    kl: float | None,
    completions: Completions,
) -> SplitResults:
    n = len(completions.ids)
    return SplitResults(
        metrics={
            name: MetricValue(
                value=float(result.value), n=n, per_sample=result.per_sample is not None
            )
            for name, result in metrics.items()
        },
        reward=float(outcome.totals.double().mean()),
        reward_components={
            name: float(part.double().mean()) for name, part in outcome.components.items()
        },
        kl_to_reference=kl,
        mean_length=float(completions.lengths.double().mean()),
        truncated_share=float(completions.truncated.double().mean()),
        n=n,
    )


def _rows(
    prompts: Prompts,
    completions: Completions,
    outcome: Outcome,
    metrics: dict[str, MetricResult],
) -> list[dict[str, Any]]:
    info = all_info(outcome.info, {name: result.info for name, result in metrics.items()})
    rows = []
    for index, text in enumerate(outcome.texts):
        row: dict[str, Any] = {
            "sample_id": prompts.sample_ids[index],
            "completion": text,
            "completion_ids": completions.ids[index][completions.mask[index]].tolist(),
            "terminated": bool(completions.terminated[index]),
            "reward": float(outcome.totals[index]),
        }
        row |= {
            f"metric/{name}": float(result.per_sample[index])
            for name, result in metrics.items()
            if result.per_sample is not None
        }
        row |= {f"reward/{name}": float(part[index]) for name, part in outcome.components.items()}
        row["info"] = {name: facts[index] for name, facts in info.items()}
        rows.append(row)
    return rows


def all_info(reward: Info, metrics: Mapping[str, Info]) -> Info:
    """Returns the facts of the reward and of the metrics by their names in samples.parquet."""
    info = {f"reward/{name}": facts for name, facts in reward.items()}
    for key, found in metrics.items():
        info |= {f"metric/{key}/{name}": facts for name, facts in found.items()}
    return info
