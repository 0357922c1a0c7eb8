"""The border to the libraries that read checkpoints: what they raise becomes one message, what they print is checked.

Their exceptions are of no one kind: a tokenizer, a config of an unknown package, a torn file and a gated repository
raise what they like.
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
     "it needs Python code of its own repository, which is never run; choose an architecture that Transformers has"),
    (r"Unrecognized configuration class",
     "choose a model of another architecture: Transformers has no such head for this one"),
    (r"does not recognize this architecture|Unrecognized model|model_type",
     "choose an architecture that the installed Transformers has, or update it"),
    (r"flash.?attn|flash.?attention|attn_implementation",
     "remove attn_implementation from config.json; it changes speed only"),
    (r"gated|401|403|authorized", "accept the model's terms on its hub, log in with `hf auth login`, and try again"),
    (r"No module named|requires the|pip install|is not installed|not found in your environment",
     "install the package that it names, or choose another model"),
    (r"header|incomplete|deseriali|unpickl|pickle|EOF|torn|corrupt|zip archive|JSON|Expecting|utf-8|codec",
     "a file is damaged; copy or download it again"),
    (r"[Cc]ouldn't instantiate the backend tokenizer|tokenizer",
     "put the tokenizer's files (tokenizer.json, tokenizer_config.json) into the folder"),
)  # fmt: skip
_NOISE: Final = re.compile(r"LOAD REPORT|tied weights mapping|checkpoint seem corrupted")
"""Warnings about weights that are missing, left over or tied; `lmrl_bench.models.checkpoint` checks all three."""


@contextmanager
def reported(
    what: str,
    kind: type[LmrlBenchError],
    folder: Path | None = None,
    failure: str = "cannot be read",
    remedy: str = "check the files of the folder, or choose another checkpoint",
) -> Iterator[None]:
    """Turns whatever a library raises inside it into one message.

    Args:
        what: What is read, with its place.
        kind: The error to raise.
        folder: Where its files are; a damaged one among them is named.
        failure: What it cannot do.
        remedy: What to do where the error is of no known kind.

    Raises:
        LmrlBenchError: A library raised something.
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
    """Returns the first line of an error, with the next one where it only announces it; or the error's kind."""
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    count = 1 + next((n for n, line in enumerate(lines[:3]) if not line.endswith(":")), 0)
    text = " ".join(lines[:count]).rstrip(":;,. ")
    return text if len(text) > 8 else f"{type(error).__name__} {text}".strip()


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps the library's progress bars and its reports on weights out of the program's output."""
    shown = library.is_progress_bar_enabled()
    library.disable_progress_bar()  # type: ignore[no-untyped-call]
    loggers = [logging.getLogger(name) for name in _SPEAKERS]
    for logger in loggers:
        logger.addFilter(_is_no_noise)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(_is_no_noise)
        if shown:
            library.enable_progress_bar()  # type: ignore[no-untyped-call]


_SPEAKERS: Final = ("transformers.modeling_utils", "transformers.integrations.peft")


def _is_no_noise(record: logging.LogRecord) -> bool:
    return _NOISE.search(record.getMessage()) is None


def _damaged_file(folder: Path | None) -> str | None:
    """Names the first file of a folder that cannot be read at all, with the reason."""
    if folder is None:
        return None
    for file in sorted([*folder.glob("*.json"), *folder.glob("*.safetensors")]):
        try:
            if file.suffix == ".json":
                json.loads(file.read_text(encoding="utf-8"))
            else:
                with safe_open(file, framework="pt"):
                    pass
        except Exception as error:  # safetensors' reader raises errors of its own kinds
            return f"{file.name} is damaged ({first_line(error)})"
    return None
