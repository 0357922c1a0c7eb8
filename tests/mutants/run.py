"""Plants one defect at a time in a copy of the repository and reports which tests catch it: `make mutants`.

The defects are data (`defects.yaml`): a function, a pattern in it, what replaces the pattern, and the tests that
must each fail then. A defect survives if one of its tests passes; then the exit status is 1.

The libraries are imported once, here; every defect is tested in a process forked from this one, so that it pays
for the package and its tests only. Name defects or pitfalls to plant those alone: `run.py A9 gae-lambda-squared`.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mutants.defects import ROOT, Defect, load_defects, package_of

PROCESSOR_SECONDS, SECONDS = 300, 3600.0
"""After which the tests of one defect are killed: it runs for ever, or waits for ever."""
SETTINGS = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "MPLBACKEND": "Agg",
    "PYTHONDONTWRITEBYTECODE": "1",  # a stale .pyc could hide a defect
    "CI": "1",  # hypothesis draws the same examples every time
}
LIBRARIES = (
    "torch", "transformers", "transformers.models.gpt2.modeling_gpt2", "transformers.models.t5.modeling_t5",
    "transformers.models.bart.modeling_bart", "transformers.models.llama.modeling_llama", "gymnasium",
    "stable_baselines3", "sb3_contrib", "pyarrow.parquet", "sacrebleu", "rouge_score.rouge_scorer", "scipy.stats",
    "pydantic", "hypothesis", "jinja2", "typer", "rich",
)  # fmt: skip
LEFT_OUT = ("*.pyc", ".*", "__pycache__", "results", "dist", "build")


@dataclass
class Outcome:
    """Results of the tests: those that failed, those that passed in all cases, and whether pytest could run them."""

    failed: set[str] = field(default_factory=set)
    ran: set[str] = field(default_factory=set)
    error: str = ""


class Watcher:
    """A pytest plugin that keeps the outcome; the further cases of a test that has failed are skipped."""

    def __init__(self, tests: Sequence[str]) -> None:
        self.tests = tests
        self.outcome = Outcome()

    def named(self, node: str) -> str:
        return next((name for name in self.tests if node.split("[")[0] == name), node)

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        if self.named(item.nodeid) in self.outcome.failed:
            pytest.skip("has failed already")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if not report.skipped:
            self.outcome.ran.add(self.named(report.nodeid))
        if report.failed:
            self.outcome.failed.add(self.named(report.nodeid))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.outcome.error = "the tests cannot be imported"


def run_tests(copy: Path, tests: Sequence[str], log: Path) -> Outcome:
    """Runs tests of the copy in a forked process."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_in_child, args=(copy, tests, log, sender))
    process.start()
    sender.close()
    if not receiver.poll(SECONDS):
        process.kill()
        process.join()
        return Outcome(error=f"the tests took more than {SECONDS:g} s")
    try:
        outcome: Outcome = receiver.recv()
    except EOFError:
        outcome = Outcome(error="the process died, or took too much processor time")
    process.join()
    return outcome


def _in_child(copy: Path, tests: Sequence[str], log: Path, sender: Connection) -> None:
    with log.open("wb") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    resource.setrlimit(resource.RLIMIT_CPU, (PROCESSOR_SECONDS, PROCESSOR_SECONDS))
    os.chdir(copy)
    os.environ["PYTHONPATH"] = str(copy)  # for tests that start processes of their own
    sys.path.insert(0, str(copy))
    watcher = Watcher(tests)
    code = pytest.main(["-q", "-p", "no:cacheprovider", "--rootdir", str(copy), *tests], [watcher])
    outcome = watcher.outcome
    package: Any = sys.modules.get("lmrl_bench")
    if package is None or not Path(package.__file__).is_relative_to(copy):
        outcome.error = "the package was not imported from the copy"
    if code not in (0, 1) and not outcome.error:
        outcome.error = f"pytest ended with {code!r}"
    sender.send(outcome)


def survives(defect: Defect, copy: Path, log: Path) -> tuple[str, list[str]]:
    """Plants the defect, runs its tests, takes it out again; returns what went wrong and the tests that passed."""
    file, changed = defect.planted(package_of())
    path = copy / "lmrl_bench" / file
    source = path.read_text(encoding="utf-8")
    path.write_text(changed, encoding="utf-8")
    try:
        outcome = run_tests(copy, defect.tests, log)
    finally:
        path.write_text(source, encoding="utf-8")
    return outcome.error, [name for name in defect.tests if name not in outcome.failed]


def main(chosen: Sequence[str]) -> int:
    """Plants all defects, or the chosen ones; returns the exit status."""
    defects = [d for d in load_defects() if not chosen or {d.id, d.pitfall} & set(chosen)]
    for defect in defects:
        defect.planted(package_of())  # a wrong address ends the program before minutes of tests
    os.environ |= SETTINGS
    sys.dont_write_bytecode = True
    for name in LIBRARIES:
        importlib.import_module(name)
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy, log = Path(folder).resolve() / "copy", Path(folder) / "log.txt"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*LEFT_OUT))
        tests = sorted({name for defect in defects for name in defect.tests})
        sound = run_tests(copy, tests, log)
        unsound = sorted(sound.failed | (set(tests) - sound.ran))
        if sound.error or unsound:
            print(log.read_text()[-5000:])
            print("without a defect:", sound.error or f"fail or are skipped: {', '.join(unsound)}")
            return 1
        print(f"{len(tests)} tests pass without a defect; {len(defects)} defects:", flush=True)
        survivors = []
        for defect in defects:
            started = time.perf_counter()
            error, passed = survives(defect, copy, log)
            if error or passed:
                survivors.append(defect.id)
            verdict = error or (f"SURVIVED {', '.join(passed)}" if passed else "caught")
            caught = ", ".join(name.split("::")[-1] for name in defect.tests if name not in passed)
            seconds = time.perf_counter() - started
            print(f"{defect.pitfall:4} {defect.id:44} {seconds:5.1f} s  {verdict}"
                  f"{f' by {caught}' if caught else ''}", flush=True)  # fmt: skip
    print(f"{len(defects) - len(survivors)} of {len(defects)} defects caught"
          + (f"; survived: {', '.join(survivors)}" if survivors else ""))  # fmt: skip
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
