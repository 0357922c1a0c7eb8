"""`lmrl-bench run`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import lmrl_bench
from lmrl_bench.cli.options import RerunChoice, rerun_names
from lmrl_bench.cli.output import note, results_lines
from lmrl_bench.core.errors import ConfigError

if TYPE_CHECKING:
    from lmrl_bench.config.loading import Located
    from lmrl_bench.records.record import RunRecord

_EVENTS = {
    "prompts_truncated": " (prompts cut at prompt.max_tokens)",
    "references_truncated": " (reference texts cut at completion.max_tokens)",
    "early_eos": " (completions that ended before completion.min_tokens)",
    "control_tokens": " (control tokens that the policy drew; they are not in the texts)",
    "provenance_changed": " (the run was resumed elsewhere, or with other code or versions)",
}


def run(
    config: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE", help="YAML file of a run; options override it.", show_default=False
        ),
    ] = None,
    task: Annotated[str | None, typer.Option(help="Task name or folder.")] = None,
    algorithm: Annotated[str | None, typer.Option(help="Algorithm name.")] = None,
    policy: Annotated[
        str | None,
        typer.Option(help="Initial model: a shipped name, a download, a folder, or a hub id."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Root seed.")] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder of the run; default: below results/runs."),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Set any field, e.g. budget.tokens=2000 or algorithm.kl.coefficient=0.1; may be "
            "repeated.",
        ),
    ] = None,
    keep_policy: Annotated[
        bool, typer.Option("--keep-policy", help="Keep the trained policy in the run's folder.")
    ] = False,
    rerun: Annotated[
        list[RerunChoice] | None,
        typer.Option(
            "--rerun",
            metavar="all|failed|stale",
            help="Discard an existing checkpoint and record: all; or only stale ones, recorded with "
            "other settings, another task version or another initial policy. A failed run is always "
            "run again.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the resolved configuration as JSON and stop.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the record of the run as JSON.")
    ] = False,
) -> None:
    """Trains one algorithm on one task and tests the result.

    The same command resumes an interrupted run, and prints the results of a complete one. Exits with
    1 if the run fails.

    Example: lmrl-bench run --task docs-en-de --algorithm ppo --set budget.tokens=2000
    """
    given = _config(config, overrides, policy=policy, out=out, keep_policy=keep_policy)
    plan = lmrl_bench.plan_run(task, algorithm, seed=seed, config=given)
    note(plan.settings_source)
    if dry_run:
        typer.echo(json.dumps(plan.config.model_dump(mode="json"), indent=2))
        note(f"digest {plan.config.digest()}")
        note(f"folder: {plan.folder}")
        note(plan.initial_policy)
        return
    record = lmrl_bench.run(plan, rerun=rerun_names(rerun), progress=True)
    if as_json:
        typer.echo(record.model_dump_json(indent=2))
    else:
        _report(record, plan.folder)
    complete = record.status == "completed"
    if keep_policy and complete and not (plan.folder / "policy").is_dir():
        note("no policy was kept: the run was complete before; add --rerun all to train it again")
    if not complete:
        raise typer.Exit(1)


def _config(
    file: Path | None,
    pairs: list[str] | None,
    *,
    policy: str | None,
    out: Path | None,
    keep_policy: bool,
) -> Located:
    """Returns the user's configuration with the place of every value, for messages."""
    from lmrl_bench.config.loading import Located, load_yaml
    from lmrl_bench.config.overrides import apply_overrides, merge

    flags: dict[str, dict[str, Any]] = {"policy": {}, "runtime": {}}
    if policy is not None:
        flags["policy"]["model"] = policy
    if out is not None:
        flags["runtime"]["output"] = str(out)
    if keep_policy:
        flags["runtime"]["keep_policy"] = True
    for pair in pairs or ():
        _require_setting(pair.partition("=")[0].strip())
    if file is not None and not file.exists():
        raise ConfigError(_no_file(file))
    given = load_yaml(file) if file else Located.plain({}, "command line")
    given = merge(given, Located.plain({k: v for k, v in flags.items() if v}, "command line"))
    return apply_overrides(given, pairs or ())


def _require_setting(key: str) -> None:
    """Refuses what names no group of settings, and names the setting that may have been meant.

    Deeper keys are checked when the run is planned, where the algorithm is known.
    """
    if key == "task":  # it decides which settings there are
        raise ConfigError("--set task: the task is named by --task, or by the run's YAML")
    from lmrl_bench.algorithms.defaults import builtin_settings
    from lmrl_bench.config.reference import settings

    names = [setting.name for setting in settings()]
    if not key or key.partition(".")[0] in {name.partition(".")[0] for name in names}:
        return
    names += [f"algorithm.{name}" for name in builtin_settings()]
    meant = [name for name in names if name.endswith(f".{key}")]
    if meant:
        raise ConfigError(f"--set {key}: unknown key; did you mean '{meant[0]}'?")


def _no_file(file: Path) -> str:
    from lmrl_bench.tasks.catalog import names

    if str(file) in names():
        return (
            f"{file}: there is no such YAML file; to run the task of this name: "
            f"lmrl-bench run --task {file} --algorithm ppo"
        )
    return (
        f"{file}: cannot be read: there is no such file (a run's YAML; see lmrl-bench run --help)"
    )


def _report(record: RunRecord, folder: Path) -> None:
    from lmrl_bench.runs.fidelity import marks

    typer.echo(f"{record.status}: {record.id}")
    if record.error:
        note(f"{record.error.type}: {record.error.message}")
        if record.error.traceback:
            note(f"the traceback is in {folder / 'record.json'}")
    for line in [*results_lines(record.results), *marks(record.fidelity), *_completions(folder)]:
        typer.echo(line)
    for event, count in record.events.items():
        note(f"{event}: {count}{_EVENTS.get(event, '')}")
    typer.echo(f"record: {folder / 'record.json'}")
    if (folder / "policy").is_dir():
        typer.echo(
            f"policy: {folder / 'policy'} (sample from it: lmrl-bench policy sample {folder})"
        )


def _completions(folder: Path, count: int = 2) -> list[str]:
    """Returns the first completions of the test, shortened; empty where the run has none."""
    from lmrl_bench.records.samples import SAMPLES, read_samples

    if not (folder / SAMPLES).is_file():
        return []
    rows = read_samples(folder).slice(0, count).to_pylist()
    return [
        f"completion     {_short(row['completion'])}  to: {_short(row['prompt'] or '')}"
        for row in rows
    ]


def _short(text: str, width: int = 60) -> str:
    """Returns one line of at most `width` characters, quoted."""
    words = " ".join(text.split())
    return f'"{words if len(words) <= width else words[: width - 1] + "…"}"'
