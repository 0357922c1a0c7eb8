"""Batched decoding with a key-value cache that keeps what training needs.

The log-probabilities of the drawn tokens, and the critic's values where its head sits on the trunk
that samples, fall off on the way, so an update needs no second forward for them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from lmrl_bench.config.sampling import SamplingConfig
from lmrl_bench.core.errors import DataError, DivergedError
from lmrl_bench.data.episodes import Completions, Prompts
from lmrl_bench.models.behavior import Behavior, TopPFilter, pack_sets
from lmrl_bench.models.networks import Decoder, Network, distinct_prompts
from lmrl_bench.policies.policy import LanguageModelPolicy
from lmrl_bench.speedups.kernels import packed_weights

FINISHED_SHARE = 0.25
"""Finished rows leave the batch when they are this share of it; sooner, copying the cache costs
more than the rows do."""

PACKED_TOKENS = 16
"""Longest completion from which a copy of the weights in the kernels' own order pays for its making."""


@dataclass(frozen=True)
class _Request:
    """The arguments that all batches of one call share; see `RolloutEngine.generate`."""

    sampling: SamplingConfig
    behavior: Behavior
    token_filter: TopPFilter | None
    max_tokens: int
    uniforms: Tensor | None


class RolloutEngine:
    """Generates drawn with a policy as it is at the moment of the call.

    Args:
        policy: The policy. Its weights are never changed. On processors with AVX-512, linear layers are in memory a
            second time while longer drawn are drawn (`packed_weights`).
    """

    def __init__(self, policy: LanguageModelPolicy) -> None:
        self.policy = policy

    @torch.no_grad()
    def generate(
        self,
        prompts: Prompts,
        sampling: SamplingConfig,
        behavior: Behavior,
        rng: torch.Generator,
        *,
        max_tokens: int,
        token_filter: TopPFilter | None = None,
        batch_size: int | None = None,
        values: bool = True,
    ) -> Completions:
        """Draws one completion for each prompt.

        Each row has its own random numbers, drawn before decoding starts. A row's completion thus
        depends neither on the other rows nor on the batch size, apart from rounding.

        Args:
            prompts: `B` prompts; equal ones are read once.
            sampling: How tokens are chosen from the behavior distribution.
            behavior: The distribution that acts.
            rng: Where the random numbers come from; untouched if greedy.
            max_tokens: Longest completion, EOS included; longer ones are truncated.
            token_filter: NLPO's token filter.
            batch_size: Prompts decoded together; default all.
            values: Whether to keep the critic's values where they fall off on the way.

        Returns:
            The drawn, on the device of the prompts, `T` being the longest of them.

        Raises:
            DataError: A prompt has no tokens.
            ValueError: `sampling` and `behavior` disagree about the temperature.
        """
        if sampling.temperature != behavior.temperature:
            raise ValueError(
                f"sampling has temperature {sampling.temperature}, behavior {behavior.temperature}"
            )
        _require_tokens(prompts)
        uniforms = None
        if not sampling.greedy:
            uniforms = torch.rand(
                len(prompts), max_tokens, generator=rng, device=rng.device, dtype=torch.float64
            ).to(self.policy.device)
        request = _Request(sampling, behavior, token_filter, max_tokens, uniforms)
        with_values = values and self.policy.critic.reads_policy_states
        drawn = _OpenCompletions(len(prompts), request, self.policy, with_values)
        with _packed(self.policy, request):
            for rows in _batches(prompts, batch_size):
                part = prompts.select(rows)
                _decode(
                    self.policy,
                    part.ids,
                    part.mask,
                    rows.to(self.policy.device),
                    request,
                    drawn,
                )
        return drawn.completions(prompts.ids.device)


class _OpenCompletions:
    """The drawn so far, one row for each prompt."""

    def __init__(
        self, rows: int, request: _Request, policy: LanguageModelPolicy, with_values: bool
    ) -> None:
        shape, device = (rows, request.max_tokens), policy.device
        self._pad_id = policy.network.pad_id
        self.ids = torch.full(shape, self._pad_id, device=device)
        self.mask = torch.zeros(shape, dtype=torch.bool, device=device)
        self.logprobs = torch.zeros(shape, device=device)
        self.values = torch.zeros(shape, device=device) if with_values else None
        self.allowed = None
        if request.token_filter is not None:
            size = -(-policy.network.width // 8)
            self.allowed = torch.zeros(*shape, size, dtype=torch.uint8, device=device)
        self.terminated = torch.zeros(rows, dtype=torch.bool, device=device)

    def add(
        self,
        rows: Tensor,
        step: int,
        open_: Tensor,
        tokens: Tensor,
        logprobs: Tensor,
        values: Tensor | None,
        allowed: Tensor | None,
    ) -> None:
        """Puts one token each `(N,)` into those of the rows that are open `(N,)`."""
        closed = ~open_
        self.ids[rows, step] = tokens.masked_fill(closed, self._pad_id)
        self.mask[rows, step] = open_
        self.logprobs[rows, step] = logprobs.masked_fill(closed, 0.0)
        if self.values is not None and values is not None:
            self.values[rows, step] = values.masked_fill(closed, 0.0)
        if self.allowed is not None and allowed is not None:
            self.allowed[rows, step] = pack_sets(allowed).masked_fill(closed.unsqueeze(1), 0)

    def completions(self, device: torch.device) -> Completions:
        """Returns the drawn without columns that no row reached."""
        stop = max(int(self.mask.sum(dim=1).max()), 1) if len(self.mask) else 1
        values = None if self.values is None else self.values[:, :stop].to(device)
        return Completions(
            ids=self.ids[:, :stop].to(device),
            mask=self.mask[:, :stop].to(device),
            logprobs=self.logprobs[:, :stop].to(device),
            terminated=self.terminated.to(device),
            truncated=~self.terminated.to(device),
            values=values,
            allowed=None if self.allowed is None else self.allowed[:, :stop].to(device),
        )


def _decode(
    policy: LanguageModelPolicy,
    ids: Tensor,
    present: Tensor,
    rows: Tensor,
    request: _Request,
    drawn: _OpenCompletions,
) -> None:
    """Decodes one batch of prompts `(N, P)`, whose numbers among all are `rows`, to the end."""
    networks = _networks(policy, request)
    decoders = [_start(network, ids, present, request.max_tokens) for network in networks]
    finished = torch.zeros_like(rows, dtype=torch.bool)
    for step in range(request.max_tokens):
        log_probabilities, allowed = _log_probabilities(decoders, step, request)
        # One NaN among the logits makes all of a row's log-probabilities NaN.
        if bool(log_probabilities[:, 0].isnan().any()):
            raise DivergedError(
                f"the policy's distribution is not a number at completion token {step + 1}"
            )
        if request.uniforms is None:
            tokens = log_probabilities.argmax(dim=-1)
        else:
            tokens = draw_tokens(log_probabilities, request.uniforms[rows, step])
        logprobs = log_probabilities.gather(1, tokens.unsqueeze(1)).squeeze(1)
        values = None if drawn.values is None else policy.critic.state_values(decoders[0].states)
        open_ = ~finished
        drawn.add(rows, step, open_, tokens, logprobs, values, allowed)
        finished |= request.behavior.vocabulary.is_end(tokens)
        drawn.terminated[rows] = finished
        n_finished = int(finished.sum())
        if n_finished == len(rows) or step + 1 == request.max_tokens:
            return
        if n_finished >= FINISHED_SHARE * len(rows):
            kept = (~finished).nonzero().squeeze(1)
            rows, tokens, finished = rows[kept], tokens[kept], finished[kept]
            for decoder in decoders:
                decoder.keep(kept)
        for decoder in decoders:
            decoder.advance(tokens)


def _networks(policy: LanguageModelPolicy, request: _Request) -> list[Network]:
    return (
        [policy.network]
        if request.token_filter is None
        else [policy.network, request.token_filter.network]
    )


def _packed(policy: LanguageModelPolicy, request: _Request) -> AbstractContextManager[None]:
    if request.max_tokens < PACKED_TOKENS:
        return nullcontext()
    return packed_weights(network.model for network in _networks(policy, request))


def _log_probabilities(
    decoders: list[Decoder], step: int, request: _Request
) -> tuple[Tensor, Tensor | None]:
    """Returns the behavior distribution of the next tokens, `(N, V)`, nats, and the sets `(N, V)` of the mask."""
    logits = decoders[0].logits
    positions = torch.full((len(logits),), step, device=logits.device)
    allowed = None
    if request.token_filter is not None:
        allowed = request.token_filter.allowed(request.behavior(decoders[1].logits, positions))
    return request.behavior(logits, positions, allowed).log_softmax(dim=-1), allowed


def _start(network: Network, ids: Tensor, present: Tensor, max_tokens: int) -> Decoder:
    """Reads the prompts, each distinct one once."""
    device = network.head.weight.device
    ids, present = ids.to(device), present.to(device)
    distinct_ids, distinct_mask, numbers = distinct_prompts(ids, present, network.pad_id)
    decoder = network.decoder(distinct_ids, distinct_mask, max_tokens)
    if len(distinct_ids) < len(ids):
        decoder.keep(numbers)
    return decoder


def _batches(prompts: Prompts, batch_size: int | None) -> Iterator[Tensor]:
    """Yields row numbers, prompts of like length together."""
    if len(prompts) == 0:
        return
    order = prompts.mask.sum(dim=1).argsort(stable=True)
    yield from torch.split(order, batch_size or len(order))


def _require_tokens(prompts: Prompts) -> None:
    for name, n_tokens in zip(prompts.sample_ids, prompts.mask.sum(dim=1).tolist(), strict=True):
        if n_tokens == 0:
            raise DataError(
                f"sample '{name}' has a prompt without tokens, from which the policy cannot start; "
                "give it text or drop the row"
            )


def draw_tokens(log_probabilities: Tensor, uniforms: Tensor) -> Tensor:
    """Returns tokens `(N,)` by inverting the cumulative distribution.

    One uniform number decides one token, so a row's token depends on nothing but its own
    distribution and number. A token of probability 0 is never drawn: its step of the cumulative
    distribution has no height (`rising`).

    Args:
        log_probabilities: `(N, V)`, nats.
        uniforms: `(N,)`, in [0, 1), float64.
    """
    probabilities = log_probabilities.exp()
    cumulative = probabilities.cumsum(dim=-1)
    if cumulative.device.type != "cpu":
        cumulative = rising(cumulative, probabilities)
    total = cumulative[:, -1]
    below = torch.nextafter(total, torch.zeros_like(total))
    threshold = torch.minimum((uniforms * total).to(total.dtype), below)
    return torch.searchsorted(cumulative, threshold.unsqueeze(1), right=True).squeeze(1)


def rising(cumulative: Tensor, probabilities: Tensor) -> Tensor:
    """Returns a cumulative distribution `(N, V)` that never falls, and rises at possible tokens only.

    Devices that add up in parallel round each sum for itself, so that the next one may be smaller, or larger where
    nothing was added.
    """
    return cumulative.masked_fill(probabilities == 0.0, 0.0).cummax(dim=-1).values
