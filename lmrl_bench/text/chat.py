"""Chats as prompts: the tokenizer's own chat template writes the turns, and what the messages say stays text."""

from __future__ import annotations

import re
from collections.abc import Sequence

import jinja2
from transformers import PreTrainedTokenizerBase

from lmrl_bench.errors import PolicyError
from lmrl_bench.text.encoding import TextEncoder
from lmrl_bench.wording import reason_of

Messages = Sequence[tuple[str, str]]
"""Role and content."""

_STAND_IN = "\ue002"
_ANSWER = "Answer"


def encode_chat(encoder: TextEncoder, messages: Messages) -> list[int]:
    """Returns the ids of a chat up to where the answer begins.

    Control tokens that a message spells become characters: a stand-in takes their place while the template is rendered.

    Raises:
        DataError: The tokenizer cannot write a message without a control token.
        PolicyError: The tokenizer has no chat template, or that refuses the messages.
    """
    marked, spelled = [], []
    for role, content in messages:
        text, found = encoder.mark(content.replace(_STAND_IN, ""), _STAND_IN)
        marked.append((role, text))
        spelled += found
    pieces = _render(encoder.tokenizer, marked).split(_STAND_IN)
    if len(pieces) != len(spelled) + 1:
        raise PolicyError(
            f"the chat template of '{encoder.tokenizer.name_or_path}' leaves out or repeats a message "
            f"that spells a control token ({spelled[0]}); use prompt.template in task.yaml"
        )
    text, written = pieces[0], [(0, len(pieces[0]))]
    for control, piece in zip(spelled, pieces[1:], strict=True):
        start = len(text) + len(control)
        text += control + piece
        written.append((start, len(text)))
    return encoder.encode(text, written)


def answer_lead(tokenizer: PreTrainedTokenizerBase, messages: Messages) -> str:
    """Returns the white space that the chat template puts before an answer.

    Raises:
        PolicyError: The tokenizer has no chat template, or that refuses the messages.
    """
    prompt = _render(tokenizer, messages)
    chat = _render(tokenizer, [*messages, ("assistant", _ANSWER)], answered=True)
    found = re.match(rf"(\s*){_ANSWER}", chat[len(prompt) :]) if chat.startswith(prompt) else None
    return found[1] if found else ""


def _render(
    tokenizer: PreTrainedTokenizerBase, messages: Messages, *, answered: bool = False
) -> str:
    if not tokenizer.chat_template:
        raise PolicyError(
            f"the task's prompts are chats (prompt.messages in task.yaml), and the tokenizer "
            f"'{tokenizer.name_or_path}' has no chat template; choose a chat model with --policy, or use "
            "prompt.template"
        )
    turns = [{"role": role, "content": content} for role, content in messages]
    try:
        return str(
            tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=not answered)
        )
    except (jinja2.TemplateError, ValueError, TypeError) as error:
        raise PolicyError(
            f"the chat template of '{tokenizer.name_or_path}' refuses the task's messages "
            f"({', '.join(role for role, _ in messages)}): {reason_of(error)}; change prompt.messages in task.yaml"
        ) from error
