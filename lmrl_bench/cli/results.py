"""`lmrl-bench results list | show | compare | samples`, and the checks of `verification`."""

from __future__ import annotations

from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

import lmrl_bench
from lmrl_bench.cli import verification
from lmrl_bench.cli.options import (
    AlgorithmsOption,
    EntriesOption,
    JsonOption,
    ResultsOption,
    TasksOption,
)
from lmrl_bench.cli.output import note, show, show_one
from lmrl_bench.core.wording import counted

app = typer.Typer(help="Results: find, compare and check runs.", no_args_is_help=True)
_NAMED = 5  # folders that cannot be listed and are named one by one


class Status(Enum):
    """How a run ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    DIVERGED = "diverged"
    INTERRUPTED = "interrupted"


class Sort(Enum):
    """Orders of `results list`."""

    FOLDER = "folder"
    TASK = "task"
    ALGORITHM = "algorithm"
    ENTRY = "entry"
    STATUS = "status"
    REWARD = "reward"
    METRIC = "metric"
    TOKENS = "tokens"
    WHEN = "when"


RunArgument = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="Folder of a run, its id as `run` prints it, or TASK/ENTRY/SEED."
    ),
]


@app.command("list")
def list_(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Folder of results, at any depth.")
    ] = Path("results"),
    task: TasksOption = None,
    algorithm: AlgorithmsOption = None,
    entry: EntriesOption = None,
    status: Annotated[
        list[Status] | None,
        typer.Option(
            "--status",
            metavar="|".join(status.value for status in Status),
            help="Only runs that ended so; may be repeated.",
        ),
    ] = None,
    sort: Annotated[
        Sort, typer.Option(help="Order; numbers and times sort largest first.")
    ] = Sort.FOLDER,
    as_json: JsonOption = False,
) -> None:
    """Lists runs: task, entry, seed, status, results, folder.

    Reward and metric are those of the test split, or of the validation split if the run has no test.

    Example: lmrl-bench results list --task docs-en-de --sort metric
    """
    found = lmrl_bench.list_runs(
        folder,
        tasks=task or (),
        algorithms=algorithm or (),
        entries=entry or (),
        statuses=[each.value for each in status or ()],
        sort=sort.value,
    )
    if as_json:
        show([run.as_dict() for run in found.runs], as_json=True)
    else:
        show([_line(run) for run in found.runs])
    note(counted(len(found.runs), "run"))
    _left_out("cannot be read", [f"{place}: {why}" for place, why in found.damaged.items()])
    _left_out("without a record (running, or killed)", list(map(str, found.unfinished)))


@app.command("show")
def show_(
    run: RunArgument, results: ResultsOption = Path("results"), as_json: JsonOption = False
) -> None:
    """Shows one run: settings, results, curve, time, environment."""
    from lmrl_bench.cli.run_text import as_dict, run_lines

    found = lmrl_bench.load_run(run, results=results)
    show_one(as_dict(found), as_json=as_json, text="\n".join(run_lines(found)))


@app.command()
def compare(
    left: RunArgument,
    right: Annotated[
        str, typer.Argument(metavar="OTHER", help="The run to compare with, named likewise.")
    ],
    everything: Annotated[bool, typer.Option("--all", help="Print equal settings, too.")] = False,
    n: Annotated[int, typer.Option("-n", "--n", min=0, help="Pairs of completions.")] = 2,
    results: ResultsOption = Path("results"),
    as_json: JsonOption = False,
) -> None:
    """Compares two runs: settings, results, curves, completions.

    Differences are the second run minus the first. Curves are compared at equal numbers of generated
    tokens.
    """
    from lmrl_bench.cli.run_text import comparison_dict, comparison_lines

    found = lmrl_bench.compare_runs(left, right, n=n, results=results)
    text = "\n".join(comparison_lines(found, everything=everything))
    show_one(comparison_dict(found), as_json=as_json, text=text)


@app.command()
def samples(
    run: RunArgument,
    n: Annotated[int, typer.Option("-n", "--n", min=1, help="Completions.")] = 5,
    split: Annotated[str, typer.Option(help="Stored decoding, e.g. test or test-greedy.")] = "test",
    best: Annotated[bool, typer.Option("--best", help="Those with the highest rewards.")] = False,
    worst: Annotated[bool, typer.Option("--worst", help="Those with the lowest rewards.")] = False,
    results: ResultsOption = Path("results"),
    as_json: JsonOption = False,
) -> None:
    """Prints prompts, completions, reference texts and rewards.

    Records keep the texts of the first prompts; the others are read from the installed task.
    """
    from lmrl_bench.cli.run_text import completion_lines

    if best and worst:
        from lmrl_bench.core.errors import ConfigError

        raise ConfigError("--best and --worst exclude each other; give one of them")
    order = "best" if best else "worst" if worst else "first"
    found = lmrl_bench.load_completions(run, n=n, split=split, order=order, results=results)
    text = "\n\n".join("\n".join(completion_lines(each)) for each in found)
    show_one([asdict(each) for each in found], as_json=as_json, text=text)


app.command()(verification.validate)
app.command()(verification.rescore)
app.command()(verification.retrain)
app.command()(verification.bounds)


def _line(run: Any) -> dict[str, Any]:
    return {
        "task": run.task,
        "entry": run.entry if run.entry == run.algorithm else f"{run.entry} ({run.algorithm})",
        "seed": run.seed,
        "status": run.status,
        "reward": run.reward,
        "metric": run.metric,
        "value": run.value,
        "tokens": run.tokens,
        "when": run.when[:16].replace("T", " "),
        "folder": run.folder,
    }


def _left_out(what: str, places: list[str]) -> None:
    if not places:
        return
    more = [f"and {len(places) - _NAMED} more"] if len(places) > _NAMED else []
    note("\n  ".join([f"{counted(len(places), 'folder')} {what}:", *places[:_NAMED], *more]))
