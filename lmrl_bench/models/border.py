"""Calls libraries that read checkpoints: errors become one message, and noise is suppressed.

Their exceptions have no common type: tokenizers, configurations of unknown packages, truncated
files and gated repositories all raise their own.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from safetensors import safe_open
from transformers.utils import logging as library

from lmrl_bench.core.errors import LmrlBenchError

_REMEDIES: Final = (
    (r"trust_remote_code|custom code|execute code|dynamic module",
     "it requires Python code from its repository, which is never run; choose an architecture of Transformers"),
    (r"Unrecognized configuration class",
     "choose a model of another architecture: Transformers has no such head for this one"),
    (r"does not recognize this architecture|Unrecognized model|model_type",
     "choose an architecture that the installed Transformers supports, or update it"),
    (r"flash.?attn|flash.?attention|attn_implementation",
     "remove attn_implementation from config.json; it changes speed only"),
    (r"gated|401|403|authorized", "accept the model's terms on its hub, log in with `hf auth login`, and try again"),
    (r"No module named|requires the|pip install|is not installed|not found in your environment",
     "install the package named in the message, or choose another model"),
    (r"header|incomplete|deseriali|unpickl|pickle|EOF|torn|corrupt|zip archive|JSON|Expecting|utf-8|codec",
     "a file is damaged; copy or download it again"),
    (r"[Cc]ouldn't instantiate the backend tokenizer|tokenizer",
     "add the tokenizer's files (tokenizer.json, tokenizer_config.json) to the folder"),
)  # fmt: skip
_NOISE: Final = re.compile(r"LOAD REPORT|tied weights mapping|checkpoint seem corrupted")
"""Warnings about missing, unused or tied weights, all of which `models.checkpoint` checks."""


@contextmanager
def reported(
    what: str,
    kind: type[LmrlBenchError],
    folder: Path | None = None,
    failure: str = "cannot be read",
    remedy: str = "check the files of the folder, or choose another checkpoint",
) -> Iterator[None]:
    """Turns any exception from a library into one message.

    Args:
        what: What is read, and from where.
        kind: Exception type to raise.
        folder: Folder of the files; the message names a damaged one.
        failure: What failed.
        remedy: Remedy for unknown errors.

    Raises:
        LmrlBenchError: A library raised an exception.
    """
    try:
        yield
    except LmrlBenchError:
        raise
    except Exception as error:
        reason = first_line(error)
        damaged = _damaged_file(folder)
        if damaged is not None:
            raise kind(f"{what} {failure}: {damaged}; copy or download it again") from error
        known = (text for pattern, text in _REMEDIES if re.search(pattern, str(error)))
        raise kind(f"{what} {failure}: {reason}; {next(known, remedy)}") from error


def first_line(error: BaseException) -> str:
    """Returns an error's first line, plus the next if it ends in a colon, or the error's type."""
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    count = 1 + next((n for n, line in enumerate(lines[:3]) if not line.endswith(":")), 0)
    text = " ".join(lines[:count]).rstrip(":;,. ")
    return text if len(text) > 8 else f"{type(error).__name__} {text}".strip()


@contextmanager
def quiet() -> Iterator[None]:
    """Suppresses progress bars and reports on weights from the libraries."""
    shown = library.is_progress_bar_enabled()
    library.disable_progress_bar()  # type: ignore[no-untyped-call]
    loggers = [logging.getLogger(name) for name in _SPEAKERS]
    for logger in loggers:
        logger.addFilter(_is_relevant)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(_is_relevant)
        if shown:
            library.enable_progress_bar()  # type: ignore[no-untyped-call]


_SPEAKERS: Final = ("transformers.modeling_utils", "transformers.integrations.peft")


def _is_relevant(record: logging.LogRecord) -> bool:
    return _NOISE.search(record.getMessage()) is None


def _damaged_file(folder: Path | None) -> str | None:
    """Returns the first unreadable file of a folder, with the reason."""
    if folder is None:
        return None
    for file in sorted([*folder.glob("*.json"), *folder.glob("*.safetensors")]):
        try:
            if file.suffix == ".json":
                json.loads(file.read_text(encoding="utf-8"))
            else:
                with safe_open(file, framework="pt"):
                    pass
        except Exception as error:  # safetensors has exception types of its own
            return f"{file.name} is damaged ({first_line(error)})"
    return None
