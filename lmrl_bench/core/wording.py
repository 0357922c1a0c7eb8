"""Helpers for error messages."""

from __future__ import annotations

from typing import Any


def counted(number: int, noun: str) -> str:
    """Returns "1 task", "3 tasks" or "12,000 tasks"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def reason_of(error: BaseException) -> str:
    """Returns the first line of an error's message, or the name of its class if it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def short_repr(value: Any, width: int = 60) -> str:
    """Returns `repr(value)`, truncated to `width` characters."""
    text = repr(value)
    return text if len(text) <= width else f"{text[: width - 3]}..."
