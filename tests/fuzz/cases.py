"""One case: a kind of file, what is done to it, and a command; and whether what came of it was right."""

from __future__ import annotations

import json
import random
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fuzz.arguments import command_line
from fuzz.kinds import KINDS, Command, Kind
from fuzz.mutators import Mutator
from fuzz.sandbox import CRASHED, Outcome, Sandbox

CLI = "command line"
FAULTS = ("traceback", "hang", "half-written", "wrong acceptance", "no word")
PLACES = ("a folder in its place", "a link to nothing", "a link to itself", "gone", "another file")
"""Replacements of the whole file; all but the last must be refused."""
OTHERS = (
    "rows.parquet", "run.yaml", "model/tokenizer.json", "rows.csv",
    "results/small/toy/start/0/record.json",
)  # fmt: skip

_TEMPORARY = re.compile(
    r"(^|/)(\.[^/]*\.[A-Za-z0-9_]{6,8}|tmp[^/]*|[^/]*\.(tmp|part|partial))(/|$)"
)
_LOCKS = re.compile(r"(^|/)(\.?[^/]*lock[^/]*|__pycache__)(/|$)")


@dataclass(frozen=True)
class Case:
    """A case, without randomness: it can be run again and made smaller.

    Attributes:
        number: Its number under the seed.
        kind: Kind of file, or the command line.
        file: The changed file.
        names: Names of the changes, in order.
        content: What the file becomes; None where it is no longer a file.
        place: One of `PLACES`, or None.
        command: Arguments of the program.
        must_refuse: Whether exit code 0 is a fault.
    """

    number: int
    kind: str
    file: str
    names: tuple[str, ...]
    content: bytes | None
    place: str | None
    command: Command
    must_refuse: bool


def make_case(seed: int, number: int, root: Path, only: str | None = None) -> Case:
    """Returns the case of this number; the same on every machine for the same world."""
    rng = random.Random(f"{seed}/{number}")
    names = [name for name, kind in KINDS.items() for _ in range(kind.weight)] + [CLI] * 12
    name = only or rng.choice(names)
    if name == CLI:
        return Case(number, CLI, "", (), None, None, command_line(rng), False)
    kind = KINDS[name]
    file = rng.choice(_files(kind, root))
    if rng.random() < 0.06:
        place = rng.choice(PLACES)
        must = place != "another file" and not kind.optional
        command, judges = _command(rng, kind)
        other = (root / rng.choice(OTHERS)).read_bytes() if place == "another file" else None
        return Case(number, name, file, (place,), other, place, command, must and judges)
    content, applied = _mutated(rng, kind, (root / file).read_bytes())
    command, judges = _command(rng, kind)
    must = judges and len(applied) == 1 and _must_refuse(kind, applied[0])
    names_applied = tuple(mutator.name for mutator in applied)
    return Case(number, name, file, names_applied, content, None, command, must)


def _files(kind: Kind, root: Path) -> list[str]:
    found = [
        path.relative_to(root).as_posix()
        for pattern in kind.files
        for path in sorted(root.glob(pattern))
        if path.is_file()
    ]
    assert found, kind.files
    return found


def _command(rng: random.Random, kind: Kind) -> tuple[Command, bool]:
    judges = bool(kind.judges) and (not kind.readers or rng.random() < 0.7)
    return rng.choice(kind.judges if judges else kind.readers), judges


def _mutated(rng: random.Random, kind: Kind, content: bytes) -> tuple[bytes, list[Mutator]]:
    applied: list[Mutator] = []
    before = content
    wanted = rng.choice([1, 1, 1, 2, 3])
    for _ in range(40):
        mutator = rng.choice(kind.mutators)
        new = None if applied and mutator.whole else mutator.change(rng, content)
        if new is None or new == content:
            continue
        content = new
        applied.append(mutator)
        if len(applied) >= wanted and content != before:
            break
    return content, applied


def _must_refuse(kind: Kind, mutator: Mutator) -> bool:
    if mutator.name in kind.accepts or (kind.optional and mutator.name == "empty"):
        return False
    return mutator.must == "ALWAYS" or (mutator.must == "STRICT" and kind.strict)


def prepare(case: Case, root: Path) -> None:
    """Puts the changed file into the world."""
    if case.kind == CLI:
        return
    path = root / case.file
    path.unlink()
    if case.place == "a folder in its place":
        path.mkdir()
    elif case.place == "a link to nothing":
        path.symlink_to("no-such-file")
    elif case.place == "a link to itself":
        path.symlink_to(path.name)
    elif case.content is not None:
        path.write_bytes(case.content)


def faults(case: Case, done: Outcome, sandbox: Sandbox, expected: dict[str, Any]) -> list[str]:
    """Returns which of `FAULTS` happened, with a word each.

    Args:
        case: The case.
        done: What the command did.
        sandbox: Where.
        expected: Results of the half run when nothing is damaged.
    """
    found = []
    if done.hung:
        found.append("hang: a limit of time was met")
    elif done.code == CRASHED or done.code < 0 or "Traceback (most recent call last)" in done.err:
        found.append(f"traceback: {_last_line(done)}")
    elif done.code not in (0, 1, 2, 3):
        found.append(f"traceback: exit code {done.code}: {_last_line(done)}")
    elif done.code != 0 and case.kind != CLI and not _names(case, done):
        found.append(f"no word: the message does not name {case.file}: {done.err.strip()[:300]!r}")
    elif done.code != 0 and not (done.err.strip() or done.out.strip()):
        found.append("no word: nothing is printed")
    found += _half_written(done)
    if done.code == 0 and case.must_refuse:
        found.append("wrong acceptance: exit code 0")
    if done.code == 0 and case.kind == "checkpoint" and _results(sandbox.root) != expected:
        found.append("wrong acceptance: the resumed run has other results")
    return found


def _names(case: Case, done: Outcome) -> bool:
    if "lint" in case.command:  # which has findings about the toy task itself
        return True
    words = (done.err + done.out).replace("\n", "")
    path = Path(case.file)
    parts = (path.name, str(path.parent), *KINDS[case.kind].named)
    return any(part in words for part in parts if part not in ("", "."))


def _half_written(done: Outcome) -> list[str]:
    new = {name for name in done.new if not _LOCKS.search(name)}
    leftovers = sorted(name for name in new if _TEMPORARY.search(name))
    if leftovers:
        return [f"half-written: left {', '.join(leftovers[:3])}"]
    if done.code in (2, 3):
        touched = sorted(
            {name for name in new | done.changed | done.gone if not _LOCKS.search(name)}
        )
        if touched:
            return [f"half-written: refused, but touched {', '.join(touched[:4])}"]
    return []


def _last_line(done: Outcome) -> str:
    lines = [line for line in done.err.splitlines() if line.strip()]
    where = [
        line.strip() for line in lines if line.strip().startswith("File") and "lmrl_bench" in line
    ]
    text = lines[-1][:200] if lines else f"signal {-done.code}"
    return f"{text} ({where[-1][:160]})" if where else text


def _results(root: Path) -> Any:
    file = root / "half" / "record.json"
    return json.loads(file.read_text())["results"] if file.is_file() else None


def run_case(case: Case, sandbox: Sandbox, expected: Any) -> tuple[Outcome, list[str]]:
    """Runs one case; the world is as before afterwards."""
    try:
        prepare(case, sandbox.root)
        done = sandbox.call(list(case.command))
        return done, faults(case, done, sandbox, expected)
    finally:
        sandbox.restore()


def resumed_results(sandbox: Sandbox) -> Any:
    """Returns the results of the half run when it is resumed undamaged."""
    try:
        done = sandbox.call(["run", "half.yaml"])
        assert done.code == 0, done.err
        return _results(sandbox.root)
    finally:
        sandbox.restore()


def smallest(case: Case, sandbox: Sandbox, expected: Any, found: list[str]) -> Case:
    """Shortens the command line of a failing case as long as it fails in the same way."""
    if case.kind != CLI:
        return case
    kinds = {fault.split(":")[0] for fault in found}
    for place in range(len(case.command) - 1, -1, -1):
        shorter = replace(case, command=case.command[:place] + case.command[place + 1 :])
        _, again = run_case(shorter, sandbox, expected)
        if kinds & {fault.split(":")[0] for fault in again}:
            case = shorter
    return case


def show(case: Case) -> str:
    """Returns the case in words."""
    command = " ".join(repr(part)[:60] for part in case.command)
    where = f"{case.file}: {', '.join(case.names)}: " if case.kind != CLI else ""
    return f"case {case.number}, {case.kind}: {where}lmrl-bench {command}"


def keep(case: Case, folder: Path) -> None:
    """Writes the changed file of a case, to be looked at."""
    if case.content is not None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{case.number}-{Path(case.file).name}").write_bytes(case.content)
