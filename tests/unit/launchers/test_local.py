"""Worker processes: every job has a result, whatever becomes of its process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lmrl_bench.core.events import Event
from lmrl_bench.launchers import local
from lmrl_bench.launchers.local import Stop, run_jobs, start_server

LONG = "x" * 200_000  # more than a pipe holds: the writer must wait for the reader


def work(job, emit):
    """Performs a job as a worker does; some jobs fail, in several ways."""
    emit(Event(str(job), "started"))
    if job == "die":
        for number in range(5):
            emit(Event(str(job), "iteration", float(number), text=LONG))
        os._exit(7)
    if job == "raise":
        raise ValueError("planted")
    if job == "unpicklable":
        return lambda: None
    if job == "heavy modules":
        return sorted({"torch", "lmrl_bench.runs.execute"} & set(sys.modules))
    if job == "environment":
        return os.environ.get("PLANTED")
    if job == "wait":
        seen = []
        signal.signal(signal.SIGTERM, lambda *_: seen.append("TERM"))
        emit(Event(str(job), "note", text="waiting"))
        for _ in range(1000):
            if seen:
                return "stopped"
            time.sleep(0.01)
        return "never told to"
    return (job * 10, os.environ["OMP_NUM_THREADS"])


@pytest.mark.parametrize("forked", [False, True])
def test_every_job_has_a_result_though_workers_die(forked):
    """Three times as many jobs as workers; a worker dies with a full pipe, is replaced, and the others go on."""
    jobs, events = [0, "die", 2, "raise", 4, "unpicklable"], []
    results = list(run_jobs(work, jobs, workers=2, on_event=events.append, forked=forked))
    by_index = {result.index: result for result in results}
    assert len(results) == len(by_index) == len(jobs)
    assert [by_index[index].value for index in (0, 2, 4)] == [(0, "1"), (20, "1"), (40, "1")]
    assert by_index[1].error == "the worker process died with exit code 7"
    assert by_index[3].error == "ValueError: planted"
    assert "pickle" in by_index[5].error
    assert [index for index in by_index if by_index[index].died] == [1]
    assert {event.run for event in events if event.kind == "started"} == set(map(str, jobs))
    assert [event.done for event in events if event.kind == "iteration"] == [0, 1, 2, 3, 4]


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux only")
def test_forked_workers_have_the_imports_from_the_server_and_the_environment_from_now(monkeypatch):
    start_server()
    monkeypatch.setenv("PLANTED", "after the server began")
    jobs = ["heavy modules", "environment"]
    results = list(run_jobs(work, jobs, workers=1, on_event=print, forked=True))
    found = [result.value for result in results]
    assert found == [["lmrl_bench.runs.execute", "torch"], "after the server began"]


@pytest.mark.parametrize("forked", [False, True])
def test_ctrl_c_stops_the_running_job_and_begins_no_other(forked):
    stop, before = Stop(), signal.getsignal(signal.SIGINT)

    events = []

    def interrupt(event):
        events.append(event.text)
        if event.text == "waiting":
            os.kill(os.getpid(), signal.SIGINT)

    jobs = ["wait", 1, 2]
    results = list(run_jobs(work, jobs, workers=1, on_event=interrupt, stop=stop, forked=forked))
    assert [(result.index, result.value) for result in results] == [(0, "stopped")]
    assert stop.requested
    assert events[-1].startswith("stopping after the running iterations")
    assert list(run_jobs(work, [1], workers=1, on_event=interrupt, stop=stop)) == []
    assert signal.getsignal(signal.SIGINT) is before


def interrupted_as_a_worker_starts(monkeypatch, which):
    """Presses Ctrl-C once the given number of workers have started; returns the list of their processes."""
    started = []

    class Interrupted(local._Worker):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            started.append(self.process)
            if len(started) == which:
                os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(local, "_Worker", Interrupted)
    return started


@pytest.mark.parametrize("forked", [False, True])
def test_ctrl_c_while_workers_start_begins_no_job_and_leaves_no_process(forked, monkeypatch):
    started = interrupted_as_a_worker_starts(monkeypatch, 1)
    stop = Stop()
    assert (
        list(run_jobs(work, [1, 2, 3], workers=2, on_event=print, stop=stop, forked=forked)) == []
    )
    assert stop.requested
    assert [process.exitcode for process in started] == [0]


@pytest.mark.parametrize("forked", [False, True])
@pytest.mark.parametrize("before", [True, False])
def test_a_job_that_is_being_begun_as_ctrl_c_comes_is_told_to_stop(forked, before, monkeypatch):
    """Before the worker counts as busy, or before it has begun."""
    give, tell = local._Worker.give, Stop.tell

    def interrupted_before(stop, worker):
        os.kill(os.getpid(), signal.SIGINT)
        tell(stop, worker)

    class Interrupted(list):
        def pop(self):
            os.kill(os.getpid(), signal.SIGINT)
            return super().pop()

    if before:
        monkeypatch.setattr(
            local._Worker, "give", lambda worker, jobs, stop: give(worker, Interrupted(jobs), stop)
        )
    else:
        monkeypatch.setattr(Stop, "tell", interrupted_before)
    (result,) = run_jobs(work, ["wait"], workers=1, on_event=print, forked=forked)
    assert result.died or result.value == "stopped"  # by TERM, before or after it can handle it


@pytest.mark.parametrize("forked", [False, True])
def test_ctrl_c_while_a_dead_worker_is_replaced_begins_no_job(forked, monkeypatch):
    started = interrupted_as_a_worker_starts(monkeypatch, 2)
    results = run_jobs(work, ["die", 1], workers=1, on_event=lambda _: None, forked=forked)
    assert [result.index for result in results] == [0]
    assert [process.exitcode for process in started] == [7, 0]


def test_no_jobs_no_workers():
    assert list(run_jobs(work, [], workers=3, on_event=print)) == []


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux only")
def test_the_server_imports_what_this_process_would_and_not_what_lies_in_the_current_folder(
    tmp_path,
):
    (tmp_path / "lmrl_bench").mkdir()
    (tmp_path / "lmrl_bench" / "__init__.py").write_text("raise SystemExit('the wrong one')")
    (tmp_path / "jobs.py").write_text(
        "import sys, lmrl_bench\n"
        "def where(job, emit): return sys.modules['lmrl_bench.launchers.preloaded'].__file__\n"
    )
    program = (
        "import sys; sys.path.remove(''); sys.path.append(sys.argv[1])\n"
        "from lmrl_bench.launchers.local import run_jobs; from jobs import where\n"
        "print([r.value for r in run_jobs(where, [0], workers=1, on_event=print, forked=True)])"
    )
    found = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert f"{Path(local.__file__).parent}/preloaded.py" in found.stdout, found.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux only")
def test_the_server_sees_neither_ctrl_c_nor_term():
    """From its start on, and not only when it has imported everything."""
    program = (
        "import signal; from multiprocessing import forkserver; from pathlib import Path\n"
        "from lmrl_bench.launchers.local import start_server\n"
        "start_server()\n"
        "status = Path(f'/proc/{forkserver._forkserver._forkserver_pid}/status').read_text()\n"
        "blocked = next(line for line in status.splitlines() if line.startswith('SigBlk'))\n"
        "mask = int(blocked.split()[1], 16)\n"
        "print(*(mask >> (number - 1) & 1 for number in (signal.SIGINT, signal.SIGTERM)))\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert found.stdout == "1 1\n", found.stderr


@pytest.mark.parametrize("forked", [False, True])
def test_a_job_whose_parent_is_gone_is_interrupted_and_says_nothing(forked, tmp_path):
    (tmp_path / "jobs.py").write_text(
        "import time; from pathlib import Path\n"
        "from lmrl_bench.launchers.progress import Event\n"
        "def work(job, emit):\n"
        "    try:\n"
        "        for _ in range(1000):\n"
        "            emit(Event('a', 'iteration'))\n"
        "            time.sleep(0.01)\n"
        "    except BaseException as error:\n"
        "        Path(job).write_text(type(error).__name__)\n"
        "        raise\n"
    )
    program = (
        "import os, sys; sys.path.append(sys.argv[1])\n"
        "from lmrl_bench.launchers.local import run_jobs; from jobs import work\n"
        "die = lambda event: os._exit(9)\n"
        f"list(run_jobs(work, [sys.argv[2]], workers=1, on_event=die, forked={forked}))"
    )
    found = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path), str(tmp_path / "end")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert found.returncode == 9
    assert (tmp_path / "end").read_text() == "KeyboardInterrupt"
    assert found.stderr == ""
