"""Reusing freed memory: asked of glibc, and of no other library."""

import ctypes

import pytest

from lmrl_bench.speedups import allocator


class Library:
    def __init__(self, *names):
        self.calls = []
        for name in names:
            setattr(self, name, lambda *arguments, name=name: self.calls.append((name, *arguments)))


@pytest.mark.parametrize(
    ("platform", "names", "count"),
    [("linux", ("mallopt", "malloc_trim"), 3), ("linux", (), 0), ("darwin", ("mallopt", "malloc_trim"), 0)],
)  # fmt: skip
def test_only_glibc_is_asked(monkeypatch, platform, names, count):
    library = Library(*names)
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: library)
    monkeypatch.setattr(allocator.sys, "platform", platform)
    allocator.reuse_freed_memory()
    assert len(library.calls) == count


def test_it_can_be_asked_twice():
    allocator.reuse_freed_memory()
    allocator.reuse_freed_memory()
