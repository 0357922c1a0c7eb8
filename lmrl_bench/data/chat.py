"""Encodes chats with the tokenizer's chat template, while the content of messages stays text."""

from __future__ import annotations

import re
from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from lmrl_bench.core.errors import PolicyError
from lmrl_bench.core.wording import reason_of
from lmrl_bench.data.encoding import TextEncoder

Messages = Sequence[tuple[str, str]]
"""Pairs of role and content."""

_ANSWER = "Answer"


def encode_chat(encoder: TextEncoder, messages: Messages) -> list[int]:
    """Returns the ids of a chat up to the start of the answer.

    Control tokens spelled in a message are encoded as characters: a placeholder replaces them while
    the template is rendered.

    Raises:
        DataError: The tokenizer cannot encode a message without a control token.
        PolicyError: The tokenizer has no chat template; or the template rejects or changes the
            messages, or does not open the answer's turn.
    """
    stand_in = _unused_character(messages)
    marked, spelled = [], []
    for role, content in messages:
        text, found = encoder.mark(content, stand_in)
        marked.append((role, text))
        spelled += found
    rendered = _render(encoder.tokenizer, marked)
    _check_complete(encoder.tokenizer, marked, rendered)
    _check_open(encoder.tokenizer, marked, rendered)
    pieces = rendered.split(stand_in)
    if len(pieces) != len(spelled) + 1:
        raise PolicyError(
            f"the chat template of '{encoder.tokenizer.name_or_path}' drops or repeats a message "
            f"that contains a control token ({spelled[0]}); use prompt.template in task.yaml"
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
        PolicyError: The tokenizer has no chat template, or the template rejects the messages.
    """
    prompt = _render(tokenizer, messages)
    found = _answer_after(tokenizer, messages, prompt)
    return found[1] if found else ""


def _unused_character(messages: Messages) -> str:
    """Returns a private-use character that no message contains."""
    used = set("".join(content for _, content in messages))
    return next(mark for mark in map(chr, range(0xE002, 0x10FFFF)) if mark not in used)


def _check_complete(tokenizer: PreTrainedTokenizerBase, messages: Messages, rendered: str) -> None:
    for role, content in messages:
        if content.strip() not in rendered:
            raise PolicyError(
                f"the chat template of '{tokenizer.name_or_path}' drops or changes the {role} message "
                f"({content.strip()!r:.60}); change prompt.messages in task.yaml, for example move a system "
                "message into the user's"
            )


def _check_open(tokenizer: PreTrainedTokenizerBase, messages: Messages, rendered: str) -> None:
    """Rejects templates that ignore `add_generation_prompt`: they do not open the answer's turn."""
    if rendered != _render(tokenizer, messages, open_answer=False):
        return
    chat = _render(tokenizer, [*messages, ("assistant", _ANSWER)], open_answer=False)
    if chat.startswith(rendered) and _answer_after(tokenizer, messages, rendered) is None:
        opening = chat[len(rendered) :].split(_ANSWER)[0]
        raise PolicyError(
            f"the chat template of '{tokenizer.name_or_path}' ignores add_generation_prompt: it ends before "
            f"{opening!r:.60}, which opens an answer; add it there under {{% if add_generation_prompt %}}"
        )


def _answer_after(
    tokenizer: PreTrainedTokenizerBase, messages: Messages, prompt: str
) -> re.Match[str] | None:
    """Finds an answer that follows a rendered prompt, separated at most by white space."""
    chat = _render(tokenizer, [*messages, ("assistant", _ANSWER)], open_answer=False)
    return re.match(rf"(\s*){_ANSWER}", chat[len(prompt) :]) if chat.startswith(prompt) else None


def _render(
    tokenizer: PreTrainedTokenizerBase, messages: Messages, *, open_answer: bool = True
) -> str:
    if not tokenizer.chat_template:
        raise PolicyError(
            f"the task's prompts are chats (prompt.messages in task.yaml), but the tokenizer "
            f"'{tokenizer.name_or_path}' has no chat template; choose a chat model with --policy or "
            "policy.default, or use "
            "prompt.template"
        )
    turns = [{"role": role, "content": content} for role, content in messages]
    roles = ", ".join(role for role, _ in messages)
    try:
        return str(
            tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=open_answer)
        )
    except Exception as error:  # a template is a program and may raise anything
        raise PolicyError(
            f"the chat template of '{tokenizer.name_or_path}' rejects the task's messages ({roles}): "
            f"{reason_of(error)}; change prompt.messages in task.yaml"
        ) from error
