"""Errors that users see.

Every message says what is wrong, where (file, line, key), what is allowed, and what to do. The
command line prints it without a traceback and exits with `exit_code`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final

_ELSEWHERE: Final = {
    "beta": "kl", "clip_coef": "clip_range", "cliprange": "clip_range", "ent_coef": "entropy_coefficient",
    "init_kl_coef": "kl", "kl_coef": "kl", "lam": "gae_lambda", "lambda": "gae_lambda", "lr": "learning_rate",
    "max_new_tokens": "max_tokens", "n_epochs": "epochs", "num_generations": "group_size",
    "num_train_epochs": "epochs", "vf_coef": "value_coefficient", "wd": "weight_decay",
}  # fmt: skip
"""Names of our settings in other libraries, for hints."""


class LmrlBenchError(Exception):
    """Base class for errors a user can fix; `exit_code` is that of the command line."""

    exit_code = 2


class ConfigError(LmrlBenchError):
    """A configuration (YAML file, override, leaderboard) is invalid; all problems are listed."""


class TaskError(LmrlBenchError):
    """A task folder or its definition is invalid."""


class DataError(LmrlBenchError):
    """A data file is missing, corrupt, has the wrong digest, or contains an unusable row."""


class DownloadError(LmrlBenchError):
    """A model or data set outside the repository is not installed."""


class MetricError(LmrlBenchError):
    """A metric cannot compute what was requested."""


class RewardError(LmrlBenchError):
    """A reward is not finite or has the wrong shape."""


class RewardNotFiniteError(RewardError):
    """A reward is NaN or infinite; a training run is recorded as `diverged`."""


class PolicyError(LmrlBenchError):
    """A policy does not fit the task (kind, vocabulary, EOS, positions)."""


class AlgorithmError(LmrlBenchError):
    """An algorithm's settings contradict each other."""


class RecordError(LmrlBenchError):
    """A run record or a results folder cannot be read or written."""


class VerificationError(LmrlBenchError):
    """A check of committed files or records has failed."""

    exit_code = 3


class DivergedError(Exception):
    """Training produced a value that is not finite; the run is recorded as `diverged`."""


def nearest(name: str, allowed: Iterable[str]) -> str:
    """Returns "; did you mean 'x'?" for the nearest allowed name, or an empty string."""
    names = list(allowed)
    known = _ELSEWHERE.get(name.lower())
    if known in names:
        return f"; did you mean '{known}'?"
    # "PPO" means 'ppo'; difflib would find no letter in common.
    lower = {other.lower(): other for other in reversed(names)}
    matches = difflib.get_close_matches(name[:200].lower(), list(lower), n=1, cutoff=0.5)
    return f"; did you mean '{lower[matches[0]]}'?" if matches else ""
