"""`lmrl-bench task list | show | preview | lint | new`."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

import lmrl_bench
from lmrl_bench.cli.options import JsonOption
from lmrl_bench.cli.output import note, show, show_one
from lmrl_bench.core.wording import counted

app = typer.Typer(
    help="Tasks: text-generation environments with data and a reward.",
    no_args_is_help=True,
)


class Splits(Enum):
    """The splits, as a command-line option takes them."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


NameArgument = Annotated[str, typer.Argument(metavar="TASK", help="Task name or folder.")]


@app.command("list")
def list_(as_json: JsonOption = False) -> None:
    """Lists the tasks."""
    show([asdict(found) for found in lmrl_bench.list_tasks()], as_json=as_json)


@app.command("show")
def show_(name: NameArgument, as_json: JsonOption = False) -> None:
    """Shows a task's definition."""
    from lmrl_bench.config.yaml_core import dump_yaml

    spec = lmrl_bench.load_task(name).spec
    content = spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    show_one(content, as_json=as_json, text=dump_yaml(content))


@app.command()
def preview(
    name: NameArgument,
    count: Annotated[int, typer.Option(min=1, help="Samples.")] = 5,
    split: Annotated[Splits, typer.Option(help="Split.")] = Splits.TRAIN,
    as_json: JsonOption = False,
) -> None:
    """Shows prompts, reference texts and rewards.

    The rewards are those of a reference text, an empty completion, and one for another prompt.
    """
    samples = lmrl_bench.preview_task(name, count=count, split=split.value, say=note)
    text = "\n\n".join(sample.text() for sample in samples)
    show_one([sample.as_dict() for sample in samples], as_json=as_json, text=text)


@app.command()
def lint(name: NameArgument, as_json: JsonOption = False) -> None:
    """Checks the data, limits, reward and environments of a task.

    Exits with 2 on an error.
    """
    findings = lmrl_bench.lint_task(name)
    text = "\n".join(finding.text(_columns()) for finding in findings)
    if findings or as_json:
        show_one([finding.as_dict() for finding in findings], as_json=as_json, text=text)
    errors = sum(finding.severity == "error" for finding in findings)
    warnings = len(findings) - errors
    note(
        f"{name}: {counted(errors, 'error') if errors else 'no errors'}, {counted(warnings, 'warning')}"
    )
    if errors:
        raise typer.Exit(2)


def _columns() -> int:
    return max(60, min(shutil.get_terminal_size((100, 24)).columns, 120))


@app.command()
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the task, e.g. my-task.")],
    data: Annotated[
        Path | None,
        typer.Option(
            "--from", help="A CSV, TSV, JSONL or Parquet file, or a folder of save_to_disk."
        ),
    ] = None,
    train: Annotated[Path | None, typer.Option(help="Training rows, instead of --from.")] = None,
    validation: Annotated[
        Path | None, typer.Option(help="Validation rows; default: a part of --train.")
    ] = None,
    test: Annotated[
        Path | None, typer.Option(help="Test rows; default: a part of --train.")
    ] = None,
    prompt_column: Annotated[str | None, typer.Option(help="Column with the prompt.")] = None,
    reference_column: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Column with a reference text, or with a list of them; may be repeated.",
        ),
    ] = None,
    no_references: Annotated[
        bool,
        typer.Option(
            "--no-references",
            help="The rows have no reference texts; the reward checks the completion alone.",
        ),
    ] = False,
    out: Annotated[
        Path, typer.Option("--out", help="Folder in which the task's folder is made.")
    ] = Path("tasks"),
) -> None:
    """Makes a task folder that runs at once, from your data.

    Example: lmrl-bench task new my-task --from my.csv --prompt-column question --reference-column answer
    """
    made = lmrl_bench.new_task(
        name,
        out,
        from_file=data,
        train=train,
        validation=validation,
        test=test,
        prompt_column=prompt_column,
        reference_columns=reference_column,
        references=not no_references,
        say=note,
    )
    note(f"made {made}; next: lmrl-bench task lint {made}")
