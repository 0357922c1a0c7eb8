"""Progress as a user sees it: plain lines for logs, at most one iteration line per run and interval; live bars."""

from __future__ import annotations

import io

from rich.console import Console

from lmrl_bench.core.events import Event, of_an_sft_policy
from lmrl_bench.core.wording import duration
from lmrl_bench.launchers import progress
from lmrl_bench.launchers.progress import GridProgress, LiveBars, PlainLines, TimeLeft, listener


def test_plain_lines_are_limited_per_run(monkeypatch):
    clock, stream = [100.0], io.StringIO()
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    show = PlainLines(stream, every=10.0)
    show(Event("t/ppo/0", "started"))
    for second in (0, 1, 9, 10, 11):
        clock[0] = 100.0 + second
        show(Event("t/ppo/0", "iteration", 0.5, {"reward": 0.25, "kl": float(second)}))
    show(Event("t/a2c/0", "iteration", values={"reward": 1.0}))
    show(Event("t/ppo/0", "evaluation", values={"reward": 0.5}, text="validation"))
    show(Event("t/ppo/0", "finished", 1.0, text="completed"))
    assert stream.getvalue().splitlines() == [
        "[t/ppo/0] started",
        "[t/ppo/0] iteration reward=0.25 kl=0 (50 % done)",
        "[t/ppo/0] iteration reward=0.25 kl=10 (50 % done, about 10 s left)",
        "[t/a2c/0] iteration reward=1 (0 % done)",
        "[t/ppo/0] validation reward=0.5",
        "[t/ppo/0] completed",
    ]


def test_the_time_left_is_of_this_sitting():
    """A run that resumes at 60 % did not reach them in its first second."""
    left = TimeLeft()
    assert left.words(Event("a", "started", text="resumed"), 0.0) == ""
    assert left.words(Event("a", "iteration", 0.6), 1.0) == "60 % done"
    assert left.words(Event("a", "iteration", 0.7), 11.0) == "70 % done, about 30 s left"
    assert left.words(Event("b", "started", text="started"), 0.0) == ""
    assert left.words(Event("b", "iteration", 0.01), 100.0) == "1 % done, about 2 h 45 min left"
    assert [duration(s) for s in (0.4, 89, 90, 3600, 5400)] == [
        "0 s", "89 s", "2 min", "60 min", "1 h 30 min",
    ]  # fmt: skip


def test_a_reader_that_is_gone_does_not_end_the_run():
    class Closed(io.StringIO):
        def flush(self):
            raise BrokenPipeError

    PlainLines(Closed())(Event("t/ppo/0", "started"))


def test_live_bars_follow_runs_and_print_what_finished():
    stream, bars = io.StringIO(), LiveBars(2)
    bars.progress.live.console = bars.progress.live.console.__class__(file=stream, width=120)
    with bars:
        bars(Event("t/ppo/0", "started"))
        bars(Event("t/ppo/0", "iteration", 0.5, {"reward": 0.25, "tokens_per_s": 900.0}))
        assert bars.progress.tasks[0].completed == 0.5
        assert bars.progress.tasks[1].fields["numbers"] == "reward 0.25  tokens_per_s 900"
        bars(Event("t/ppo/0", "note", text="dropped a torn line"))
        bars(Event("t/ppo/0", "finished", 1.0, text="completed"))
        assert [task.description for task in bars.progress.tasks] == ["all runs"]
        assert bars.progress.tasks[0].completed == 1.0
        bars(Event("t/a2c/0", "finished", 1.0, text="already completed"))  # it never began
        assert bars.progress.finished
    shown = stream.getvalue()
    assert "[t/ppo/0] completed" in shown
    assert "[t/ppo/0] dropped a torn line" in shown
    assert isinstance(bars.progress.console, Console)


def test_a_start_that_is_trained_first_is_shown_and_not_counted():
    """Else a grid of two would end with "3 done"; its name may also be a row's."""
    bars = LiveBars(2)
    bars.progress.live.console = bars.progress.live.console.__class__(file=io.StringIO(), width=120)
    with bars:
        start = of_an_sft_policy(bars)
        start(Event("t/sft/0", "started"))
        start(Event("t/sft/0", "iteration", 0.5))
        assert [task.description for task in bars.progress.tasks] == [
            "all runs",
            "t/sft/0 (start)",
        ]
        assert bars.progress.tasks[0].completed == 0.0
        start(Event("t/sft/0", "finished", 1.0, text="completed"))
        assert bars.progress.tasks[0].fields["numbers"] == "0 done"
        bars(Event("t/sft/0", "started"))
        bars(Event("t/sft/0", "iteration", 0.25))
        assert bars.progress.tasks[0].completed == 0.25
        for name in ("t/sft/0", "t/ppo/0", "t/ppo/0"):  # a cell is told of once
            bars(Event(name, "finished", 1.0, text="completed"))
        assert bars.progress.tasks[0].completed == 2.0
        assert bars.progress.tasks[0].fields["numbers"] == "2 done"


def test_without_a_terminal_there_are_plain_lines():
    assert isinstance(listener(3), PlainLines)


def test_a_grid_says_which_cell_of_how_many_and_how_long_the_rest_takes(monkeypatch):
    clock, lines = [0.0], []
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    weights = {"a": 100.0, "b": 100.0, "c": 100.0, "old": 100.0}
    show = GridProgress(4, lambda event: lines.append(event.text), weights)
    show(Event("old", "finished", 1.0, text="already completed"))
    show(Event("a", "started", text="started"))
    show(Event("b", "started", text="resumed", done=0.0))
    clock[0] = 50.0
    show(Event("b", "iteration", 0.5))  # where it resumed: no work of this sitting
    show(Event("a", "finished", 1.0, {"tokens": 1000.0}, text="completed"))
    show(Event("x (start)", "finished", 1.0, text="completed", counted=False))
    clock[0] = 120.0
    show(Event("b", "finished", 1.0, {"tokens": 500.0}, text="completed"))
    show(Event("c", "finished", 1.0, text="failed: lost"))
    assert (
        [line for line in lines if line not in ("", "started", "resumed")]
        == [
            "already completed (1 of 4)",
            "completed (2 of 4, 1 running, 1,000 tokens, about 75 s left)",  # 100 in 50 s; 50 of b, 100 of c are left
            "completed",
            "completed (3 of 4, 1,500 tokens, about 80 s left)",  # 150 in 120 s; 100 of c are left
            "failed: lost (4 of 4, 1,500 tokens)",
        ]
    )
