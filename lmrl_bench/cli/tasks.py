"""`lmrl-bench task list | show | preview | lint | new`."""

from __future__ import annotations

import shutil
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lmrl_bench.cli.output import JsonOption, note, show, show_one
from lmrl_bench.core.errors import LmrlBenchError
from lmrl_bench.core.wording import counted, reason_of

if TYPE_CHECKING:
    from lmrl_bench.tasks.lint import PromptCounter, TokenCounter
    from lmrl_bench.tasks.task import Task

app = typer.Typer(help="Tasks: text-generation environments.", no_args_is_help=True)


class Splits(Enum):
    """The splits, as a command-line option takes them."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


NameArgument = Annotated[str, typer.Argument(help="Task name or folder.")]


@app.command("list")
def list_(as_json: JsonOption = False) -> None:
    """Lists the tasks."""
    from lmrl_bench.tasks.catalog import load_task, names

    rows = []
    for name in names():
        spec = load_task(name).spec
        rows.append(
            {
                "name": name,
                "version": spec.version,
                "policy": spec.policies.default,
                "primary": spec.metrics.primary.name,
                "summary": spec.summary,
            }
        )
    show(rows, as_json=as_json)


@app.command("show")
def show_(name: NameArgument, as_json: JsonOption = False) -> None:
    """Shows a task's definition."""
    import yaml

    from lmrl_bench.tasks.catalog import load_task

    spec = load_task(name).spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    show_one(spec, as_json=as_json, text=yaml.safe_dump(spec, sort_keys=False, allow_unicode=True))


@app.command()
def preview(
    name: NameArgument,
    count: Annotated[int, typer.Option(min=1, help="Samples.")] = 5,
    split: Annotated[Splits, typer.Option(help="Split.")] = Splits.TRAIN,
    as_json: JsonOption = False,
) -> None:
    """Shows prompts, references and the rewards of some answers.

    The answers are the reference, an empty one, and one to another prompt.
    """
    from lmrl_bench.tasks.catalog import load_task
    from lmrl_bench.tasks.preview import preview as preview_task

    task = load_task(name)
    samples = preview_task(task, count, split.value, *_counters(task))
    text = "\n\n".join(sample.text() for sample in samples)
    show_one([sample.as_dict() for sample in samples], as_json=as_json, text=text)


def _counters(task: Task) -> tuple[TokenCounter, PromptCounter] | tuple[None, None]:
    """Counts tokens as the task's default policy does; None, and a remark, where its tokenizer is not here."""
    from lmrl_bench.runs.task_checks import token_counters

    try:
        return token_counters(task)
    except (LmrlBenchError, OSError, ValueError) as error:
        note(
            "tokens are not counted: the tokenizer of the default policy cannot be read "
            f"({reason_of(error)})"
        )
        return None, None


@app.command()
def lint(name: NameArgument, as_json: JsonOption = False) -> None:
    """Checks the data, limits, reward and environment of a task.

    Exits with 2 on an error.
    """
    from lmrl_bench.runs.task_checks import lint_task

    findings = lint_task(name)
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
    name: Annotated[str, typer.Argument(help="Name of the task, e.g. my-task.")],
    data: Annotated[
        Path | None,
        typer.Option(
            "--from", help="A CSV, TSV, JSONL or Parquet file, or a folder of save_to_disk."
        ),
    ] = None,
    train: Annotated[Path | None, typer.Option(help="Own splits: the training rows.")] = None,
    validation: Annotated[Path | None, typer.Option(help="Default: taken from --train.")] = None,
    test: Annotated[Path | None, typer.Option(help="Default: taken from --train.")] = None,
    prompt_column: Annotated[str | None, typer.Option(help="Column with the prompt.")] = None,
    reference_column: Annotated[
        list[str] | None,
        typer.Option(
            metavar="<str>",
            help="Column with the reference, or with a list of them; may be repeated.",
        ),
    ] = None,
    no_references: Annotated[
        bool,
        typer.Option(
            "--no-references", help="The rows have none: a check of the answer is the reward."
        ),
    ] = False,
    folder: Annotated[Path, typer.Option(help="Where the task's folder is made.")] = Path("tasks"),
) -> None:
    """Makes a task folder that runs at once.

    Prints what it left out or changed of your rows.
    """
    from lmrl_bench.tasks.scaffold import new_task

    given = {"train": train, "validation": validation, "test": test}
    made = new_task(
        name,
        folder,
        from_file=data,
        prompt_column=prompt_column,
        reference_column=reference_column,
        references=not no_references,
        splits={split: path for split, path in given.items() if path is not None},  # type: ignore[misc]
        say=note,
    )
    note(f"made {made}; next: lmrl-bench task lint {made}")
