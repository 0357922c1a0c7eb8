"""A completed run as it is checked: record, lines of the curves, answers, and what its settings say of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from pydantic import ValidationError
from tokenizers import Tokenizer

from lmrl_bench.config.run import RunConfig
from lmrl_bench.config.sampling import SamplingConfig
from lmrl_bench.core.errors import PolicyError, RecordError
from lmrl_bench.core.wording import reason_of
from lmrl_bench.leaderboards.ranking import UNFILTERED
from lmrl_bench.models.files import read_json
from lmrl_bench.models.fingerprints import local_digests
from lmrl_bench.models.names import resolve_model
from lmrl_bench.records.curves import TrainingPoint, ValidationPoint, read_points
from lmrl_bench.records.parsing import problems_of
from lmrl_bench.records.record import RunRecord
from lmrl_bench.records.store import read_samples
from lmrl_bench.tasks.spec import CompletionSpec
from lmrl_bench.tasks.task import Task

ROUNDING = 1e-6
"""Largest relative difference between equal means: some are computed in single precision."""
NOISE = 30.0
"""Nats. For n independent completions y of a policy p, E[exp(-Σ log p(y)/q(y))] = 1, so by Markov's inequality
Σ log p(y)/q(y) is below -30 with a probability of at most e^-30, about 1e-13."""
LOWEST: Final = 104.0
"""Nats. The smallest positive number of single precision is 2**-149 = e**-103.3, so a token that the initial
policy gives a smaller probability has the probability 0. A completion of `max_tokens` tokens is at most that many
times as many nats likelier under the trained policy."""


@dataclass(frozen=True)
class Run:
    """One completed run.

    Attributes:
        record: Its record.
        task: Its task.
        config: The record's configuration, typed.
        training: The lines of training, in their order.
        validation: The lines of evaluations, in their order.
        rows: The answers.
    """

    record: RunRecord
    task: Task
    config: RunConfig
    training: Sequence[TrainingPoint]
    validation: Sequence[ValidationPoint]
    rows: Sequence[dict[str, Any]]

    @property
    def completion(self) -> CompletionSpec:
        """The task's limits of a completion."""
        return self.task.spec.completion

    @property
    def sampling(self) -> SamplingConfig:
        """How evaluations decode."""
        return self.task.spec.decoding

    @property
    def trains(self) -> bool:
        """Whether the algorithm learns."""
        return self.record.traits.trains

    @property
    def rolls_out(self) -> bool:
        """Whether it learns from its own completions."""
        return self.record.traits.spends_tokens

    @property
    def episodes_per_iteration(self) -> int | None:
        """Completions per iteration; None for an algorithm that does not say."""
        value = (self.config.algorithm.model_extra or {}).get("episodes_per_iteration")
        return value if self.rolls_out and type(value) is int and value > 0 else None

    @property
    def sampling_rounds(self) -> int:
        """The number of times an iteration may sample its episodes (dynamic sampling); 1 for most algorithms."""
        value = (self.config.algorithm.model_extra or {}).get("max_sampling_rounds")
        return value if type(value) is int and value > 0 else 1

    @cached_property
    def decodings(self) -> list[str]:
        """The decodings of the test split that a run with this configuration has."""
        masked = self.record.traits.filters_tokens
        further = [("test-greedy", self.config.evaluation.greedy), (UNFILTERED, masked)]
        return ["test", *(name for name, asked in further if asked)]

    def asked(self, split: str) -> int:
        """Returns the number of prompts of a split that are evaluated."""
        evaluation = self.config.evaluation
        if split == "validation":
            return min(evaluation.validation_samples, len(self.task.samples("validation")))
        return min(evaluation.test_samples, len(self.task.samples("test")))

    @cached_property
    def vocabulary(self) -> Language | None:
        """The tokenizer of the policy, where it is on this machine."""
        policy = self.record.policy
        name = self.config.policy.model or self.task.spec.policy.default
        here = local_digests(name, self.config.policy.revision)
        if policy is None or here is None or here.tokenizer != policy.tokenizer_sha256:
            return None
        return language(resolve_model(name, self.config.policy.revision))


class Language(NamedTuple):
    """The facts of a tokenizer that decide which ids a completion may have, and their text.

    Attributes:
        tokenizer: The tokenizer.
        ids: Its ids.
        ends: The ids that end a completion.
        control: The ids that are not text.
        decodes: Whether its file alone says what text ids are.
    """

    tokenizer: Tokenizer
    ids: frozenset[int]
    ends: frozenset[int]
    control: frozenset[int]
    decodes: bool

    def text(self, ids: Sequence[int]) -> str:
        """The text of a completion, as `TextCodec.decode` makes it."""
        kept = ids[:-1] if ids and ids[-1] in self.ends else ids
        text = [number for number in kept if number not in self.control]
        return str(self.tokenizer.decode(text, skip_special_tokens=False)).strip()


def open_run(folder: Path, record: RunRecord, task: Task) -> Run:
    """Reads what is checked.

    Raises:
        RecordError: A file cannot be read, or the configuration is none.
    """
    try:
        config = RunConfig.model_validate(
            {**record.config, "entry": record.entry, "seed": record.seed}
        )
    except ValidationError as error:
        raise RecordError(f"config: {problems_of(error)}") from error
    training, validation = read_points(folder)
    rows = read_samples(folder).to_pylist() if record.samples else []
    return Run(record, task, config, training, validation, rows)


@lru_cache(maxsize=8)
def language(folder: str) -> Language | None:
    """Reads the tokenizer of a model's folder; None where it has no file that can be read without Transformers.

    Raises:
        PolicyError: A file is damaged.
    """
    path = Path(folder)
    file = path / "tokenizer.json"
    if not file.is_file():
        return None
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises nothing more special
        raise PolicyError(
            f"{file}: cannot be read ({reason_of(error)}); restore the file"
        ) from error
    settings = _json(path / "tokenizer_config.json")
    token = settings.get("eos_token")
    spelled = token.get("content") if isinstance(token, dict) else token
    own = tokenizer.token_to_id(str(spelled))
    if own is None:
        return None
    ids = frozenset(tokenizer.get_vocab(with_added_tokens=True).values())
    named = _json(path / "generation_config.json").get("eos_token_id")
    named = _json(path / "config.json").get("eos_token_id") if named is None else named
    further = named if isinstance(named, list) else [named]
    ends = {own, *(number for number in further if number in ids)}
    plain = settings.get("tokenizer_class") in ("TokenizersBackend", "PreTrainedTokenizerFast")
    return Language(tokenizer, ids, frozenset(ends), _control(tokenizer, settings), plain)


def _control(tokenizer: Tokenizer, settings: Mapping[str, Any]) -> frozenset[int]:
    """Ids of the special tokens of several characters, as in `lmrl_bench.data.vocabulary.control_tokens`."""
    added = tokenizer.get_added_tokens_decoder().values()
    names = {token.content for token in added if token.special}
    for key, value in settings.items():
        if key.endswith(("_token", "special_tokens")):
            named = isinstance(value, dict) and "content" not in value
            entries = (
                list(value.values()) if named else value if isinstance(value, list) else [value]
            )
            names |= {
                str(entry["content"] if isinstance(entry, dict) else entry) for entry in entries
            }
    found = (tokenizer.token_to_id(name) for name in names if len(name) > 1)
    return frozenset(number for number in found if number is not None)


def _json(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def equal(first: float, second: float, tolerance: float = ROUNDING) -> bool:
    """Returns whether two numbers are the same mean, computed in another order or precision."""
    return abs(first - second) <= tolerance * max(1.0, abs(second))


def is_count(value: float) -> bool:
    """Returns whether a number is a count, up to rounding."""
    return abs(value - round(value)) <= ROUNDING * max(1.0, abs(value))


def length_problems(
    what: str, mean_length: float, truncated_share: float, n: int, completion: CompletionSpec
) -> Iterator[str]:
    """Yields why a mean length and a truncated share of `n` completions cannot be."""
    tokens, cut = mean_length * n, truncated_share * n
    if not is_count(tokens) or not is_count(cut):
        yield (
            f"{what}: mean_length {mean_length:.9g} and truncated_share {truncated_share:.9g} are "
            f"not of {n} completions"
        )
        return
    least = round(cut) * completion.max_tokens + (n - round(cut)) * max(1, completion.min_tokens)
    if not least <= round(tokens) <= n * completion.max_tokens:
        yield (
            f"{what}: mean_length {mean_length:.9g} cannot be with {completion.min_tokens} to "
            f"{completion.max_tokens} tokens in a completion and a truncated_share of {truncated_share:.9g}"
        )


def kl_problems(
    what: str, kl: float | None, n: int, run: Run, *, greedy: bool, at_start: bool
) -> Iterator[str]:
    """Yields why a mean log-ratio to the initial policy over `n` completions cannot be."""
    written = run.record.traits.control == "text"
    if kl is None or written:
        if (kl is None) is not written:
            yield f"{what}: kl_to_reference is {kl}; it is null if, and only if, no policy wrote the completions"
        return
    slack = 2e-3 * run.completion.max_tokens  # the two passes round otherwise
    if at_start and abs(kl) > slack:
        yield f"{what}: kl_to_reference is {kl:.6g} of the start to itself; it is 0 but for rounding"
    elif not greedy and kl < -NOISE / n - slack:
        least = f"{-NOISE / n - slack:.4g}"
        yield f"{what}: kl_to_reference is {kl:.6g}; a mean over {n} sampled completions is not below {least}"
    elif kl > LOWEST * run.completion.max_tokens:
        most = f"{LOWEST * run.completion.max_tokens:.6g}"
        tokens = run.completion.max_tokens
        yield f"{what}: kl_to_reference is {kl:.6g}; in single precision {tokens} tokens reach {most}"


def within(value: float, bounds: tuple[float, float]) -> bool:
    """Returns whether a value lies inside bounds, up to rounding."""
    low, high = bounds
    slack = ROUNDING * max(1.0, *(abs(bound) for bound in bounds if math.isfinite(bound)), 0.0)
    return low - slack <= value <= high + slack
