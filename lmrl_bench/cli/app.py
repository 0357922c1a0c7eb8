"""`lmrl-bench run | bench | tune | doctor` and the groups task, algorithm, policy, assets, board, submission."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from lmrl_bench.cli import (
    algorithms,
    assets,
    boards,
    grids,
    measures,
    policies,
    submissions,
    tasks,
    tuning,
)
from lmrl_bench.cli.output import (
    OUTPUT,
    Commands,
    JsonOption,
    SetOption,
    note,
    results_lines,
    show_version,
)
from lmrl_bench.core.errors import ConfigError

app = typer.Typer(
    cls=Commands,
    help="Compare reinforcement-learning algorithms for language models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # importing rich takes longer than all the rest of --help
    context_settings={"max_content_width": 100},
)
app.add_typer(tasks.app, name="task")
app.add_typer(algorithms.app, name="algorithm")
app.add_typer(measures.metrics, name="metric")
app.add_typer(measures.rewards, name="reward")
app.add_typer(policies.app, name="policy")
app.add_typer(assets.app, name="assets")
app.add_typer(boards.app, name="board")
app.add_typer(submissions.app, name="submission")
app.command()(grids.bench)
app.command()(tuning.tune)


_EVENTS = {
    "prompts_truncated": " (prompts cut at prompt.max_tokens)",
    "references_truncated": " (references cut at response.max_tokens)",
    "early_eos": " (responses that ended before response.min_tokens)",
    "control_tokens": " (control tokens that the policy drew; they are not in the texts)",
    "provenance_changed": " (the run was resumed elsewhere, or with other code or versions)",
}


@app.callback()
def _options(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=show_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    # No docstring: it would stand in place of the help above.
    pass


@app.command()
def run(
    config: Annotated[
        Path | None, typer.Argument(help="A run's YAML; flags override it.", show_default=False)
    ] = None,
    task: Annotated[str | None, typer.Option(help="Task name or folder.")] = None,
    algorithm: Annotated[str | None, typer.Option(help="Algorithm name.")] = None,
    policy: Annotated[
        str | None, typer.Option(help="Policy: shipped, asset, folder, hub id.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Root seed.")] = None,
    output: Annotated[Path | None, typer.Option(*OUTPUT, help="Folder of the run.")] = None,
    overrides: SetOption = None,
    keep_policy: Annotated[
        bool, typer.Option("--keep-policy", help="Keep the trained policy in the run's folder.")
    ] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget checkpoint and record.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the resolved configuration.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Trains one algorithm on one task.

    An interrupted run resumes when the same command is called again without --fresh.
    """
    from lmrl_bench.runs.command import given_run

    flags = {"task": task, "algorithm": algorithm, "policy": policy, "seed": seed, "output": output}
    loaded, given = given_run(config, flags)
    from lmrl_bench.runs.folders import own_folder
    from lmrl_bench.runs.resolve import resolve, settings_note

    kept = ["runtime.keep_policy=true"] if keep_policy else []
    resolved = own_folder(loaded, resolve(loaded, given, overrides=[*(overrides or []), *kept]))
    note(settings_note(loaded, resolved))
    if dry_run:
        from lmrl_bench.runs.starts import start_state

        typer.echo(json.dumps(resolved.model_dump(mode="json"), indent=2))
        note(f"digest {resolved.digest()}")
        note(f"folder: {resolved.runtime.output}")
        note(start_state(loaded, resolved.policy))
        return
    from lmrl_bench.runs.execute import execute_with_start
    from lmrl_bench.runs.folders import run_folder
    from lmrl_bench.runs.progress import LiveBars, listener

    shown = listener(1)
    with shown if isinstance(shown, LiveBars) else contextlib.nullcontext():
        record = execute_with_start(resolved, loaded, progress=shown, fresh=fresh)
    folder = run_folder(resolved)
    _report(record, folder, as_json)
    if (
        resolved.runtime.keep_policy
        and record.status == "completed"
        and not (folder / "policy").is_dir()
    ):
        note("no policy was kept: the run was complete before --keep-policy was given; add --fresh")
    if record.status != "completed":
        raise typer.Exit(1)


def _answers(folder: Path, count: int = 2) -> list[str]:
    """Returns the first answers of the test, shortened; empty where the run has none."""
    from lmrl_bench.records.samples import SAMPLES, read_samples

    if not (folder / SAMPLES).is_file():
        return []
    rows = read_samples(folder).slice(0, count).to_pylist()
    return [
        f"answer         {_short(row['output'])}  to: {_short(row['prompt'] or '')}" for row in rows
    ]


def _short(text: str, width: int = 60) -> str:
    """One line of at most `width` characters, quoted."""
    words = " ".join(text.split())
    return f'"{words if len(words) <= width else words[: width - 1] + "…"}"'


def _report(record: Any, folder: Path, as_json: bool) -> None:
    if as_json:
        typer.echo(record.model_dump_json(indent=2))
        return
    typer.echo(f"{record.status}: {record.id}")
    if record.error:
        note(f"{record.error.type}: {record.error.message}")
        if record.error.traceback:
            note(f"the traceback is in {folder / 'record.json'}")
    from lmrl_bench.runs.fidelity import marks

    for line in [*results_lines(record.results), *marks(record.fidelity)]:
        typer.echo(line)
    for line in _answers(folder):
        typer.echo(line)
    for event, count in record.events.items():
        note(f"{event}: {count}{_EVENTS.get(event, '')}")
    typer.echo(f"record: {folder / 'record.json'}")
    if (folder / "policy").is_dir():
        typer.echo(
            f"policy: {folder / 'policy'} (sample from it: lmrl-bench policy sample {folder})"
        )


@app.command()
def settings(
    part: Annotated[
        str | None,
        typer.Argument(help="Only this part, for example evaluation.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Lists all settings of a run: type, default, meaning."""
    from lmrl_bench.cli.output import show_settings
    from lmrl_bench.config.reference import settings as all_settings
    from lmrl_bench.core.errors import nearest

    every = all_settings()
    found = [s for s in every if part in (None, s.name, s.name.partition(".")[0])]
    if not found:
        names = list(dict.fromkeys(s.name.partition(".")[0] for s in every))
        raise ConfigError(
            f"no settings '{part}'{nearest(str(part), names)} (parts: {', '.join(names)})"
        )
    show_settings(found, as_json=as_json)


@app.command()
def doctor(as_json: JsonOption = False) -> None:
    """Shows versions, threads and caches."""
    from lmrl_bench.cli.output import show
    from lmrl_bench.runs.doctor import examine

    show(examine(), as_json=as_json)
