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


def duration(seconds: float) -> str:
    """Returns "45 s", "12 min" or "3 h 20 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
