"""Builds codecs and cores: from a task and a policy's tokenizer, or from names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lmrl_bench.data.tokenization import Kind, TextCodec
from lmrl_bench.data.vocabulary import Vocabulary, stored_kind
from lmrl_bench.envs.core import EpisodeCore
from lmrl_bench.tasks.catalog import load_task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from lmrl_bench.tasks.spec import Split
    from lmrl_bench.tasks.task import Task


def open_core(
    task: Task | str, tokenizer: PreTrainedTokenizerBase | str | None, split: Split
) -> EpisodeCore:
    """Builds the core of an environment.

    Args:
        task: A task, or its name or folder.
        tokenizer: A tokenizer, or the name or folder of a model (see `lmrl_bench.models.names`); by
            default the tokenizer of the task's default policy.
        split: The split.

    Raises:
        LmrlBenchError: Unknown name, missing file or download, or a tokenizer without EOS.
    """
    opened = load_task(task) if isinstance(task, str) else task
    if tokenizer is None:
        tokenizer = opened.spec.policy.default
    if isinstance(tokenizer, str):
        # Loads the code of models; a caller who brings a tokenizer does not need it.
        from lmrl_bench.models.checkpoint import load_tokenizer

        tokenizer = load_tokenizer(tokenizer)
    kind = stored_kind(tokenizer) or _only(opened.spec.policy.kinds)
    return EpisodeCore(opened, task_codec(opened, tokenizer, kind=kind), split=split)


def task_codec(
    task: Task,
    tokenizer: PreTrainedTokenizerBase,
    *,
    kind: Kind | None,
    vocabulary: Vocabulary | None = None,
) -> TextCodec:
    """Returns the codec with a task's limits, for environments and for runs alike.

    Args:
        task: The task.
        tokenizer: The policy's tokenizer.
        kind: "causal" or "seq2seq"; None: by the tokenizer.
        vocabulary: The policy's vocabulary; by default the tokenizer's.
    """
    prompt, completion = task.spec.prompt, task.spec.completion
    return TextCodec(
        tokenizer,
        max_prompt_tokens=prompt.max_tokens,
        truncate=prompt.truncate,
        max_completion_tokens=completion.max_tokens,
        vocabulary=vocabulary,
        kind=kind,
    )


def _only(kinds: Sequence[Kind]) -> Kind | None:
    return kinds[0] if len(kinds) == 1 else None
