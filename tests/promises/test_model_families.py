"""Every kind of checkpoint is right to 1e-4 nats against its own plain forward, or refused with the true reason.

`python tests/promises/test_model_families.py [NAME ...]` prints the table.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from pathlib import Path

import pytest
import transformers

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fixtures.checkpoints import CHECKPOINTS
from fixtures.families import ARCHITECTURES
from fixtures.family_verdicts import judge

FAMILIES = [*ARCHITECTURES, *CHECKPOINTS]
LEAST = 60
"""Least number of architectures, whatever the installed version of Transformers leaves out."""


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_right_or_refused(family, tmp_path):
    if not family.exists():
        pytest.skip(f"this version of Transformers has no {family.needs}")
    if family.name.startswith("adapter/"):
        pytest.importorskip("peft")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        verdict = judge(family, tmp_path / "model")
    assert verdict.fits(family), f"expected {family.expect}, {verdict.kind}: {verdict.detail}"


def test_names_are_unique():
    names = [family.name for family in FAMILIES]
    assert len(set(names)) == len(names)


def test_enough_families_exist_in_this_version():
    assert sum(family.exists() for family in ARCHITECTURES) >= LEAST


def print_table(names: list[str]) -> int:
    """Prints what happens with each family; returns how many are not as they must be."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    warnings.simplefilter("ignore")
    counts: dict[str, int] = {}
    wrong = 0
    for family in FAMILIES:
        if names and family.name not in names:
            continue
        if not family.exists():
            print(f"| {family.name} | not in this version | |", flush=True)
            continue
        with tempfile.TemporaryDirectory() as folder:
            verdict = judge(family, Path(folder) / "model")
        wrong += not verdict.fits(family)
        mark = "" if verdict.fits(family) else "**"
        detail = verdict.detail.splitlines()[0][:170]
        print(f"| {family.name} | {mark}{verdict.kind}{mark} | {detail} |", flush=True)
        counts[verdict.kind] = counts.get(verdict.kind, 0) + 1
    print(", ".join(f"{kind}: {count}" for kind, count in sorted(counts.items())))
    return wrong


if __name__ == "__main__":
    sys.exit(1 if print_table(sys.argv[1:]) else 0)
