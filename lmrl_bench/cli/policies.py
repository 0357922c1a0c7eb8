"""`lmrl-bench policy export | sample | evaluate`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from lmrl_bench.cli.output import OUTPUT, JsonOption, note, show_one

app = typer.Typer(
    help="Trained policies: export, sample from and evaluate them.", no_args_is_help=True
)

PlaceArgument = Annotated[
    str,
    typer.Argument(metavar="RUN|FOLDER", help="Folder of a run that kept its policy, or a policy."),
]
TaskOption = Annotated[
    str | None, typer.Option(help="Task name or folder; default: the run's task.")
]
TemperatureOption = Annotated[
    float | None, typer.Option(min=1e-6, help="Default: the task's decoding.")
]
DeviceOption = Annotated[str, typer.Option(help="Where to compute, for example cuda.")]


@app.command()
def export(
    place: PlaceArgument,
    out: Annotated[Path, typer.Option(*OUTPUT, help="Folder to write; must be empty or missing.")],
    merge_adapter: Annotated[
        bool, typer.Option("--merge-adapter", help="Merge a LoRA adapter into its base model.")
    ] = False,
) -> None:
    """Writes a policy as an ordinary Hugging Face folder.

    from_pretrained loads it anywhere.
    """
    from lmrl_bench.runs.policies import export as export_policy

    note(f"wrote {export_policy(place, out, merge_adapter=merge_adapter)}")


@app.command()
def sample(
    place: PlaceArgument,
    task: TaskOption = None,
    prompt: Annotated[
        str | None, typer.Option(help="Answer this text; default: the first test prompts.")
    ] = None,
    n: Annotated[int, typer.Option("-n", "--n", min=1, help="Responses.")] = 3,
    temperature: TemperatureOption = None,
    greedy: Annotated[
        bool, typer.Option("--greedy", help="Take the most probable token at each step.")
    ] = False,
    reward: Annotated[
        bool, typer.Option("--reward", help="Also print the task's reward of each response.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the random numbers.")] = 0,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Prints responses of a policy.

    They answer the first test prompts of the task, or a prompt of your own.
    """
    from lmrl_bench.runs.policies import sample as draw

    found = draw(
        place, task, prompt=prompt, n=n, temperature=temperature, greedy=greedy, reward=reward,
        seed=seed, device=device,
    )  # fmt: skip
    lines = []
    # Only a prompt of one's own is answered several times; there is no reward then.
    different = (
        list({(one.response, one.terminated): one for one in found}.values())
        if prompt is not None
        else found
    )
    for response in different:
        end = "" if response.terminated else "  [cut at the task's limit]"
        lines += [f"prompt:    {response.prompt}", f"response:  {response.response}{end}"]
        lines += [f"reference: {text}" for text in response.references[:1]]
        if response.reward is not None:
            lines.append(f"reward:    {response.reward:.4g}")
        lines += [f"{name}: {value}" for name, value in response.info.items()]
        lines += [""]
    if len(different) < len(found) and not as_json:
        note(f"{len(found)} responses, of which {len(different)} different")
    rows = [dataclasses.asdict(response) for response in found]
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
        int | None, typer.Option(min=0, help="Of the random numbers; default: the run's, or 0.")
    ] = None,
    device: DeviceOption = "cpu",
    output: Annotated[
        Path | None,
        typer.Option(*OUTPUT, help="Also write a record, as a run of the algorithm 'none'."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Evaluates a policy on the test split.

    For the policy of a run, the numbers are those of its record.
    """
    from lmrl_bench.cli.output import results_lines
    from lmrl_bench.runs.policies import evaluate as measure
    from lmrl_bench.runs.policies import record_evaluation

    options = {"samples": samples, "temperature": temperature, "seed": seed}
    if output is not None:
        record = record_evaluation(place, task, output, device=device, **options)  # type: ignore[arg-type]
        typer.echo("\n".join(results_lines(record.results)))
        note(f"record: {output / 'record.json'}")
        return
    found = measure(place, task, device=device, **options)  # type: ignore[arg-type]
    for remark in found.remarks:
        note(remark)
    rows = {name: result.model_dump(mode="json") for name, result in found.results.items()}
    text = "\n".join(results_lines(found.results, kl=found.start))
    show_one(rows, as_json=as_json, text=text)
