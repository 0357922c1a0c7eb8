"""A folder in which commands run, each in a process of its own with limits; afterwards the folder is as before."""

from __future__ import annotations

import atexit
import contextlib
import os
import resource
import shutil
import signal
import stat
import sys
import time
import traceback
import weakref
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

CPU_SECONDS, WALL_SECONDS = 20, 120
MEMORY = 3 << 30
"""More than the process has when a case starts, bytes."""

CRASHED = 99
"""Exit code of a case in which an exception came out of the program."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of a command.

    Attributes:
        code: Exit code; negative: the signal that ended it.
        hung: It met a limit of time.
        out, err: What it printed; an exception that came out of the program is in `err`.
        new, changed, gone: Files, relative to the sandbox.
    """

    code: int
    hung: bool
    out: str
    err: str
    new: set[str] = field(default_factory=set)
    changed: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)


class Sandbox:
    """A world of small valid files.

    Args:
        root: Its folder; what lies there now is what every case starts from.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.outputs = root.parent / f"{root.name}-outputs"
        self.outputs.mkdir(exist_ok=True)
        self.pristine = root.parent / f"{root.name}-pristine"
        if not self.pristine.exists():
            shutil.copytree(root, self.pristine, symlinks=True)
        self._state = self.scan()

    def scan(self) -> dict[str, tuple[int, ...]]:
        """Returns each file and folder with what tells a change."""
        found: dict[str, tuple[int, ...]] = {}
        for folder, folders, files in os.walk(self.root):
            for name in [*folders, *files]:
                path = f"{folder}/{name}"
                facts = os.lstat(path)
                is_folder = stat.S_ISDIR(facts.st_mode)
                key = (0,) if is_folder else (facts.st_mtime_ns, facts.st_size, facts.st_ino)
                found[os.path.relpath(path, self.root)] = (stat.S_IFMT(facts.st_mode), *key)
        return found

    def call(self, arguments: list[str]) -> Outcome:
        """Runs `lmrl-bench ARGUMENTS` in a child of this process."""
        before = self.scan()
        child = os.fork()
        if child == 0:
            self._in_child(arguments)
        hung, status = self._wait(child)
        after = self.scan()
        code = os.waitstatus_to_exitcode(status)
        texts = [
            (self.outputs / name).read_text(encoding="utf-8", errors="replace")
            for name in ("out", "err")
        ]
        return Outcome(
            code,
            hung or code == -signal.SIGXCPU,
            *texts,
            new=set(after) - set(before),
            changed={name for name in after if before.get(name, after[name]) != after[name]},
            gone=set(before) - set(after),
        )

    def _wait(self, child: int) -> tuple[bool, int]:
        end = time.monotonic() + WALL_SECONDS
        pause = 0.001
        while True:
            found, status = os.waitpid(child, os.WNOHANG)
            if found:
                return False, status
            if time.monotonic() > end:
                os.killpg(child, signal.SIGKILL)
                return True, os.waitpid(child, 0)[1]
            time.sleep(pause)
            pause = min(pause * 1.3, 0.02)

    def _in_child(self, arguments: list[str]) -> None:
        """Never returns."""
        code = CRASHED
        try:
            os.setsid()
            _forget_exits()
            os.chdir(self.root)
            for number, name in ((1, "out"), (2, "err")):
                place = os.open(self.outputs / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                os.dup2(place, number)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            sys.stdout = open(1, "w", encoding="utf-8", errors="strict", closefd=False)  # noqa: SIM115
            sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
            _limit()
            code = _main(arguments)
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(BaseException):
                atexit._run_exitfuncs()
            with contextlib.suppress(BaseException):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def restore(self) -> None:
        """Puts back what a case left otherwise."""
        now = self.scan()
        for name in sorted(set(now) - set(self._state), reverse=True):
            _remove(self.root / name)
        for name in sorted(self._state):
            if now.get(name) == self._state[name]:
                continue
            target, source = self.root / name, self.pristine / name
            if os.path.lexists(target) and not (target.is_dir() and source.is_dir()):
                _remove(target)
            if source.is_dir() and not source.is_symlink():
                target.mkdir(exist_ok=True)
            else:
                shutil.copy2(source, target, follow_symlinks=False)
        self._state = self.scan()


def _forget_exits() -> None:
    """Clears the parent's exit handlers, which the child must not run."""
    atexit._clear()
    weakref.finalize._registry.clear()  # type: ignore[attr-defined]
    weakref.finalize._registered_with_atexit = False  # type: ignore[attr-defined]


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 2))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 28, 1 << 28))


def _main(arguments: list[str]) -> int:
    from lmrl_bench.cli import main

    with patch.object(sys, "argv", ["lmrl-bench", *arguments]):
        try:
            main()
        except SystemExit as stopped:
            return _exit_code(stopped.code)
    return 0


def _exit_code(code: Any) -> int:
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 255
    print(code, file=sys.stderr)
    return 1


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
