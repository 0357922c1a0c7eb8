"""Fuzzes every kind of file that the program reads, and its command line.

    python tests/fuzz/run.py --cases 10000 --seed 0        `make fuzz`
    python tests/fuzz/run.py --seed 0 --case 1234          one case again, with what it printed

Each case changes one file of a small valid world and runs one command in a process of its own, with
limits of time and memory. Exit codes 0 to 3 are right, a refusal names the file and writes nothing.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import os
import pkgutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ |= {
    "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "200",
}  # fmt: skip

from fuzz import cases, world
from fuzz.kinds import KINDS
from fuzz.sandbox import Sandbox

COLUMNS = ("cases", "refused", "accepted", *cases.FAULTS)


def main() -> int:
    """Runs the cases and prints what was found; returns the exit code."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="lmrl-fuzz-") as place:
        root = Path(place) / "world"
        world.make(root)
        preload()
        sandbox = Sandbox(root)
        expected = cases.resumed_results(sandbox)
        broken = check_world(sandbox)
        if broken:
            print("\n".join(broken))
            return 2
        if options.case is not None:
            return _once(options, sandbox, expected)
        return _many(options, sandbox, expected)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", type=int, help="only this one, with what it prints")
    parser.add_argument("--only", choices=[*KINDS, cases.CLI], help="only this kind")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after these")
    parser.add_argument("--keep", type=Path, help="folder for the files of failing cases")
    return parser.parse_args()


def preload() -> None:
    """Imports what commands import, so that each case starts with it."""
    import lmrl_bench

    for module in pkgutil.walk_packages(lmrl_bench.__path__, "lmrl_bench."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    gc.collect()
    gc.freeze()


def check_world(sandbox: Sandbox) -> list[str]:
    """Returns which commands fail before anything is changed."""
    found = []
    for kind in KINDS.values():
        for command in (*kind.judges, *kind.readers):
            done = sandbox.call(list(command))
            sandbox.restore()
            if done.code != (2 if "lint" in command else 0):  # the toy task has faults of its own
                found.append(f"{' '.join(command)}: exit code {done.code}: {done.err[-600:]}")
    return sorted(set(found))


def _once(options: argparse.Namespace, sandbox: Sandbox, expected: object) -> int:
    case = cases.make_case(options.seed, options.case, sandbox.root, options.only)
    print(cases.show(case))
    if options.keep:
        cases.keep(case, options.keep)
    done, found = cases.run_case(case, sandbox, expected)
    print(f"exit code {done.code}\n--- stdout\n{done.out[:3000]}\n--- stderr\n{done.err[-6000:]}")
    print(f"--- new {sorted(done.new)[:9]} changed {sorted(done.changed)[:9]}")
    print("\n".join(found) or "right")
    return 1 if found else 0


def _many(options: argparse.Namespace, sandbox: Sandbox, expected: object) -> int:
    table: dict[str, Counter[str]] = {}
    end = time.monotonic() + options.seconds
    for number in range(options.cases):
        if time.monotonic() > end:
            print(f"stopped after {number} cases: --seconds {options.seconds:g}")
            break
        case = cases.make_case(options.seed, number, sandbox.root, options.only)
        done, found = cases.run_case(case, sandbox, expected)
        row = table.setdefault(case.kind, Counter())
        row.update(["cases", "accepted" if done.code == 0 else "refused"])
        row.update({fault.split(":")[0] for fault in found})
        if found:
            small = cases.smallest(case, sandbox, expected, found)
            again = f" --only {options.only!r}" if options.only else ""
            print(f"{cases.show(small)}\n   " + "\n   ".join(found), flush=True)
            print(f"   again: {sys.argv[0]} --seed {options.seed} --case {number}{again}")
            if options.keep:
                cases.keep(case, options.keep)
    print_table(table)
    return 1 if any(row[fault] for row in table.values() for fault in cases.FAULTS) else 0


def print_table(table: dict[str, Counter[str]]) -> None:
    """Prints the counts by kind of file."""
    print("| kind | " + " | ".join(COLUMNS) + " |\n|" + "---|" * (len(COLUMNS) + 1))
    total: Counter[str] = Counter()
    for name in sorted(table):
        total.update(table[name])
        print(f"| {name} | " + " | ".join(str(table[name][column]) for column in COLUMNS) + " |")
    print("| all | " + " | ".join(str(total[column]) for column in COLUMNS) + " |")


if __name__ == "__main__":
    sys.exit(main())
