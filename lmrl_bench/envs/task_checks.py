"""`lmrl-bench task lint`: the task's own checks, and those that need an environment."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lmrl_bench.core.errors import LmrlBenchError
from lmrl_bench.data.tokenization import TextCodec
from lmrl_bench.data.vocabulary import stored_kind
from lmrl_bench.envs.completion_env import CompletionEnv
from lmrl_bench.envs.text_checks import text_checks
from lmrl_bench.envs.token_env import TextGenerationEnv
from lmrl_bench.models.checkpoint import load_tokenizer
from lmrl_bench.tasks.catalog import load_task
from lmrl_bench.tasks.lint import Finding, PromptCounter, TokenCounter, lint
from lmrl_bench.tasks.task import Task


def lint_task(name: str | Path) -> list[Finding]:
    """Returns all findings of a task; an error that stops a check is a finding, too."""
    task = load_task(name)
    count_tokens, count_prompts = token_counters(task)
    checks = [text_checks, _gymnasium_checks, _views_agree]
    return lint(task, count_tokens, checks, count_prompts)


def token_counters(task: Task) -> tuple[TokenCounter, PromptCounter]:
    """Count tokens of texts and of whole prompts as the task's default policy reads them."""
    tokenizer: Any = load_tokenizer(task.spec.policy.default)
    codec = TextCodec(
        tokenizer, max_prompt_tokens=sys.maxsize, max_completion_tokens=sys.maxsize,
        kind=stored_kind(tokenizer),
    )  # fmt: skip
    around = len(codec.encoder.before) + len(codec.encoder.after)

    def count_tokens(texts: Sequence[str]) -> list[int]:
        return [len(codec.encoder.encode(text)) + around for text in texts]

    return count_tokens, lambda samples: [len(codec.encode(sample)) for sample in samples]


def _gymnasium_checks(task: Task) -> list[Finding]:
    """Runs Gymnasium's own checker on both views."""
    from gymnasium.utils.env_checker import check_env

    findings = []
    for view in (TextGenerationEnv, CompletionEnv):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                check_env(view(task), skip_render_check=True)
        except LmrlBenchError:
            raise
        except Exception as error:
            findings.append(
                Finding(
                    "error", view.__name__, f"Gymnasium's check_env: {error}", "see the message"
                )
            )
    return findings


def _views_agree(task: Task) -> list[Finding]:
    """Steps one reference through both views; the rewards must be equal."""
    tokens, completion = TextGenerationEnv(task), CompletionEnv(task)
    rows = [row for row, sample in enumerate(task.samples("train")) if sample.references]
    if not rows:
        return []
    for env in (tokens, completion):
        env.reset(seed=0, options={"index": rows[0]})
    codec = tokens.core.codec
    ids = codec.encode_reference(tokens.core.sample_at(rows[0]))
    stepped = 0.0
    for token in ids:
        _, reward, terminated, truncated, _ = tokens.step(int(token))
        stepped += float(reward)
        if terminated or truncated:
            break
    padded = np.full(task.spec.completion.max_tokens, codec.pad_id, dtype=np.int64)
    padded[: len(ids)] = ids
    whole = float(completion.step(padded)[1])
    if np.isclose(stepped, whole, atol=1e-6):
        return []
    return [
        Finding(
            "error",
            "envs",
            f"token view and completion view disagree: {stepped} and {whole}",
            "the reward must depend on the finished text alone",
        )
    ]
