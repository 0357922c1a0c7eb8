"""`lmrl-bench policy export | sample | evaluate`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

import lmrl_bench
from lmrl_bench.cli.options import JsonOption
from lmrl_bench.cli.output import note, results_lines, show_one

app = typer.Typer(
    help="Policies: sample from, evaluate and export a model.",
    no_args_is_help=True,
)

PlaceArgument = Annotated[
    str,
    typer.Argument(metavar="RUN|FOLDER", help="Folder of a run that kept its policy, or a policy."),
]
TaskOption = Annotated[
    str | None, typer.Option(help="Task name or folder; default: the run's task.")
]
TemperatureOption = Annotated[
    float | None, typer.Option(min=1e-6, help="Sampling temperature; default: the task's decoding.")
]
DeviceOption = Annotated[str, typer.Option(help="Where to compute, for example cuda.")]


@app.command()
def export(
    place: PlaceArgument,
    out: Annotated[Path, typer.Option("--out", help="Folder to write; must be empty or missing.")],
    merge_adapter: Annotated[
        bool, typer.Option("--merge-adapter", help="Merge a LoRA adapter into its base model.")
    ] = False,
) -> None:
    """Writes a policy as an ordinary Hugging Face folder.

    from_pretrained loads it anywhere.
    """
    note(f"wrote {lmrl_bench.export_policy(place, out, merge_adapter=merge_adapter)}")


@app.command()
def sample(
    place: PlaceArgument,
    task: TaskOption = None,
    prompt: Annotated[
        str | None, typer.Option(help="Complete this text; default: the first test prompts.")
    ] = None,
    n: Annotated[int, typer.Option("-n", "--n", min=1, help="Completions.")] = 3,
    temperature: TemperatureOption = None,
    greedy: Annotated[
        bool, typer.Option("--greedy", help="Take the most probable token at each step.")
    ] = False,
    reward: Annotated[
        bool, typer.Option("--reward", help="Also print the task's reward of each completion.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the sampling.")] = 0,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Prints completions of test prompts, or of your own prompt."""
    found = lmrl_bench.sample(
        place, task, prompt=prompt, n=n, temperature=temperature, greedy=greedy, reward=reward,
        seed=seed, device=device,
    )  # fmt: skip
    lines = []
    # Only a prompt of one's own is answered several times; there is no reward then.
    different = (
        list({(one.completion, one.terminated): one for one in found}.values())
        if prompt is not None
        else found
    )
    for completion in different:
        end = "" if completion.terminated else "  [cut at the task's limit]"
        lines += [f"prompt:    {completion.prompt}", f"completion:  {completion.completion}{end}"]
        lines += [f"reference: {text}" for text in completion.references[:1]]
        if completion.reward is not None:
            lines.append(f"reward:    {completion.reward:.4g}")
        lines += [f"{name}: {value}" for name, value in completion.info.items()]
        lines += [""]
    if len(different) < len(found) and not as_json:
        note(f"{len(found)} completions, of which {len(different)} different")
    rows = [dataclasses.asdict(completion) for completion in found]
    show_one(rows, as_json=as_json, text="\n".join(lines).rstrip("\n"))


@app.command()
def evaluate(
    place: PlaceArgument,
    task: TaskOption = None,
    samples: Annotated[
        int | None,
        typer.Option(min=1, help="First rows of the test split; default: the run's, or 256."),
    ] = None,
    temperature: TemperatureOption = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of the sampling; default: the run's, or 0.")
    ] = None,
    device: DeviceOption = "cpu",
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Also write a record into this folder, as an untrained run."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Evaluates a policy on the test split.

    For the policy that a run kept, this gives the numbers of the run's record again.
    """
    found = lmrl_bench.evaluate(
        place, task, samples=samples, temperature=temperature, seed=seed, device=device, out=out
    )
    for remark in found.remarks:
        note(remark)
    rows = {name: result.model_dump(mode="json") for name, result in found.results.items()}
    text = "\n".join(results_lines(found.results, kl=found.kl_to_initial))
    show_one(rows, as_json=as_json, text=text)
    if out is not None:
        note(f"record: {out / 'record.json'}")
