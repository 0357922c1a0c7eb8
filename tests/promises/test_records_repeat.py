"""The promise of records: same configuration and seed, same record, byte for byte; also after Ctrl-C, TERM and KILL."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time

import pytest
from fixtures.runs import make_world

from lmrl_bench import run
from lmrl_bench.cli import main
from lmrl_bench.records.store import check_files, read_curves, read_record

ALGORITHMS = ("ppo", "a2c", "trpo", "nlpo", "nlpo-rl4lms", "sft")
FILES = ("curves.jsonl", "samples.parquet", "config.yaml")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Prompts and references are cut at their limits, which the record counts."""
    with pytest.MonkeyPatch.context() as patch:
        yield make_world(
            tmp_path_factory.mktemp("world"),
            patch.setenv,
            prompt={"max_tokens": 5, "truncate": "left"},
            completion={"max_tokens": 4},
        )


def given(world, output, name, tokens=120, **changes):
    settings = world.given()["algorithm"] | {"name": name}
    if name in ("a2c", "trpo"):  # one pass, so nothing is shuffled
        settings = {
            key: settings[key] for key in ("name", "episodes_per_iteration", "learning_rate")
        }
    if name == "sft":
        settings = {"name": name, "epochs": 2, "batch_size": 4, "steps_per_iteration": 1}
    if name == "nlpo":
        settings |= {"filter_update_iterations": 3}
    return world.given(output, algorithm=settings, budget={"tokens": tokens}, **changes)


@pytest.fixture(scope="module")
def whole(world):
    """Uninterrupted runs by algorithm, made when first asked for."""
    made = {}

    def get(name):
        if name not in made:
            made[name] = run("toy", name, config=given(world, f"{name}-whole", name))
        return made[name]

    return get


def assert_same(world, record, other, folders):
    one, two = (world.root / folder for folder in folders)
    for name in FILES:
        assert (one / name).read_bytes() == (two / name).read_bytes(), name
    assert record.facts() == other.facts()
    assert record.digest() == other.digest()
    check_files(one, record)


def stop_at(iteration, number):
    """Returns a listener that sends this process a signal after an iteration."""
    seen = []

    def listen(event):
        if event.kind == "iteration":
            seen.append(event)
            if len(seen) == iteration:
                os.kill(os.getpid(), number)

    return listen


@pytest.mark.parametrize("name", ALGORITHMS)
def test_same_seed_same_record_another_seed_another_record(name, world, whole):
    record = whole(name)
    assert record.status == "completed"
    assert record.budget.iterations >= 5
    assert record.events["prompts_truncated"] > 0
    again = run("toy", name, config=given(world, f"{name}-again", name))
    assert_same(world, again, record, (f"{name}-again", f"{name}-whole"))
    other = run("toy", name, seed=1, config=given(world, f"{name}-other", name))
    assert other.config_digest == record.config_digest
    assert other.digest() != record.digest()
    assert other.curves.sha256 != record.curves.sha256


@pytest.fixture
def _listening():
    """Ctrl-C works here even if the suite was started in the background, where shells ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_listening")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["INT", "TERM"])
@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_stopped_run_is_a_record_and_resumes_to_the_same(name, number, world, whole):
    """Stopped twice: between checkpoints, and again after it was resumed."""
    folder = f"{name}-{number}"
    settings = given(world, folder, name)
    for at, done in ((1, 1), (2, 3)):
        stopped = run("toy", name, config=settings, progress=stop_at(at, number))
        assert stopped.status == "interrupted"
        assert stopped.error.iteration == done
        assert (world.root / folder / "checkpoint" / "state.pt").exists()
        assert read_record(world.root / folder) == stopped
    resumed = run("toy", name, config=settings)
    assert resumed.status == "completed"
    assert_same(world, resumed, whole(name), (folder, f"{name}-whole"))
    assert not (world.root / folder / "checkpoint").exists()


def _run_until_killed(settings, name):
    run("toy", name, config=settings, progress=stop_at(5, signal.SIGKILL))


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_killed_run_resumes_from_its_last_checkpoint(name, world, whole):
    """Killed at iteration 5, after the checkpoint of iteration 4, while it wrote a line of the curves."""
    folder = world.root / f"{name}-killed"
    settings = given(world, folder.name, name)
    process = multiprocessing.get_context("fork").Process(
        target=_run_until_killed, args=(settings, name)
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not (folder / "record.json").exists()
    assert read_curves(folder)[-1]["iteration"] == 5
    with (folder / "curves.jsonl").open("a") as stream:
        stream.write('{"iteration":6,"kin')
    notes = []
    resumed = run("toy", name, config=settings, progress=notes.append)
    assert resumed.status == "completed"
    assert [note.text for note in notes[:2]] == ["resumed", "dropped a torn line of curves.jsonl"]
    assert_same(world, resumed, whole(name), (folder.name, f"{name}-whole"))


HELD = """
import time
from pathlib import Path

def held():
    while Path({curves!r}).exists() and '"train"' in Path({curves!r}).read_text():
        if Path({go!r}).exists():
            break
        time.sleep(0.01)
    return 0.0
"""
"""Ends a reward's plug-in: in the run that writes these curves the second iteration waits for a file."""


def _command_line(arguments, log):
    """In a process of its own, which has imported everything already: `lmrl-bench ARGUMENTS`."""
    with log.open("w", buffering=1) as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
        sys.stdout = sys.stderr = stream
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        sys.argv = ["lmrl-bench", *arguments]
        main()


def test_kill_on_the_command_line(tmp_path, monkeypatch):
    """A process gets TERM in the middle, says how to resume, and the same command completes the run."""
    world = make_world(tmp_path, monkeypatch.setenv)
    curves, go, log = tmp_path / "process" / "curves.jsonl", tmp_path / "go", tmp_path / "log"
    world.add_reward("held", "[len(text) + held() for text in batch.completions]")
    with (world.folder / "plugin.py").open("a") as stream:
        stream.write(HELD.format(curves=str(curves), go=str(go)))
    path = world.run_file(**given(world, "process", "ppo"))
    process = multiprocessing.get_context("fork").Process(
        target=_command_line, args=(["run", str(path)], log)
    )
    process.start()
    while process.is_alive() and not (curves.exists() and '"train"' in curves.read_text()):
        time.sleep(0.01)
    process.terminate()
    go.touch()
    process.join()
    assert process.exitcode == 1, log.read_text()
    assert "run the same command again to resume" in log.read_text()
    assert "Traceback" not in log.read_text()
    stopped = read_record(tmp_path / "process")
    assert stopped.status == "interrupted"
    assert 0 < stopped.budget.tokens < 120
    resumed = run("toy", "ppo", config=given(world, "process", "ppo"))
    uninterrupted = run("toy", "ppo", config=given(world, "process-whole", "ppo"))
    assert_same(world, resumed, uninterrupted, ("process", "process-whole"))
