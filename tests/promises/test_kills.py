"""A run that is killed at any operation on a file and called again has the facts of an undisturbed one, nothing else.

`KILLS=150 pytest tests/promises/test_kills.py` kills at 150 operations, or at all of them if there are fewer; the suite
at 14; `SEED` chooses others. What is killed is the training of an SFT policy, then that of a run from it, which
keeps its policy.
`python tests/promises/test_kills.py N` prints a line for each.
"""

from __future__ import annotations

import itertools
import os
import random
import re
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pytest
from fixtures.accidents import Scene

KILLS = int(os.environ.get("KILLS", "14"))
SEED = int(os.environ.get("SEED", "0"))


def judge(scene: Scene, kill_at: int, facts: object, files: list[str]) -> str:
    """Kills, calls again, and returns what is wrong then; an empty text if nothing is."""
    from lmrl_bench.verification.tree import look

    scene.clear()
    killed = scene.call(kill_at=kill_at)
    if killed.code != -9:
        return f"not killed: {killed.code} {killed.text[-300:]}"
    again = scene.call()
    if again.code:
        return f"stuck: exit {again.code}: {again.text.strip()[-300:]}"
    if scene.facts() != facts:
        return "other facts"
    if extra := sorted(set(scene.files()) ^ set(files)):
        return f"leftovers: {extra}"
    problems = look(scene.root / "results").problems
    return f"validate: {problems}" if problems else ""


def chosen(operations: list[str], count: int) -> list[int]:
    """Returns `count` numbers of operations: one of each kind and file, renaming first, then a second of each …"""
    kinds: dict[str, list[int]] = {}
    for number, name in enumerate(operations, start=1):
        kinds.setdefault(re.sub(r"[.-][a-z0-9_]{8}(?=-old$|$)", "", name), []).append(number)
    draw = random.Random(SEED)
    for numbers in kinds.values():
        draw.shuffle(numbers)
    order = sorted(kinds, key=lambda name: (not name.startswith(("re", "mk", "un")), draw.random()))
    rounds = (kinds[name][turn : turn + 1] for turn in range(len(operations)) for name in order)
    return sorted(itertools.islice(itertools.chain.from_iterable(rounds), count))


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return Scene(tmp_path_factory.mktemp("kills"))


def test_a_killed_run_goes_on_to_the_same_facts_and_leaves_nothing(scene):
    whole = scene.call()
    assert whole.code == 0, whole.text
    facts, files = scene.facts(), scene.files()
    assert len(whole.operations) > 100
    found = {n: judge(scene, n, facts, files) for n in chosen(whole.operations, KILLS)}
    wrong = {f"{n} ({whole.operations[n - 1]})": text for n, text in found.items() if text}
    assert not wrong


if __name__ == "__main__":
    import tempfile

    import torch

    torch.set_num_threads(1)
    import lmrl_bench.launchers.preloaded  # noqa: F401

    stage = Scene(Path(tempfile.mkdtemp()).resolve())
    undisturbed = stage.call()
    print(undisturbed.code, len(undisturbed.operations), "operations", undisturbed.text[-300:])
    expected = stage.facts(), stage.files()
    kinds: dict[str, int] = {}
    for number in chosen(undisturbed.operations, int(sys.argv[1])):
        text = judge(stage, number, *expected)
        kind = text.partition(":")[0] or "same"
        kinds[kind] = kinds.get(kind, 0) + 1
        if text:
            print(number, undisturbed.operations[number - 1], text, flush=True)
    print(kinds)
