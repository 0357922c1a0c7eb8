"""Every field of a run's files: what bounds it, and what is believed. Documentation and test are made from this table.

`lmrl-bench results bounds` prints it, results/README.md shows it, and `tests/cli/cheats` plants a violation of each
row that is checked.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Bound(NamedTuple):
    """The bound of a field, or of fields that are checked alike.

    Attributes:
        file: The file.
        fields: The fields, with `*` for any name.
        bound: What is checked; empty if nothing is.
        believed: What nothing contradicts, and why; empty if that is nothing.
    """

    file: str
    fields: tuple[str, ...]
    bound: str
    believed: str = ""


_RECORD: Final = "record.json"
_CURVES: Final = "curves.jsonl"
_SAMPLES: Final = "samples.parquet"
_CHECKS: Final = "verification.json"
_AGAIN: Final = "only training again tells (`results retrain`)"

BOUNDS: Final = (
    Bound(_RECORD, ("schema", "status"), "known values; a completed run lacks no part"),
    Bound(_RECORD, ("id", "entry", "seed"), "those of the folder and of the configuration's digest"),
    Bound(_RECORD, ("error.*",), "absent from a completed run, there for any other; the type is a name; message "
          "and traceback have at most "
          "10,000 characters, and no control characters but line breaks and tabs",
          "the text of an error of a failed run"),
    Bound(_RECORD, ("task.name", "task.version", "task.digest"), "the task as it is today"),
    Bound(_RECORD, ("task.data.*",), "digest and rows of each split of the task"),
    Bound(_RECORD, ("task.metric_signatures", "task.reward_signature"),
          "one for each metric of the task, equal to the one computed here but for versions of libraries",
          "of metrics that need a model, until `results rescore`"),
    Bound(_RECORD, ("task.primary_metric", "task.held_out_metrics"), "the task's"),
    Bound(_RECORD, ("task.lower_is_better", "task.neutral_metrics"), "the directions of the metrics' own classes",
          "of metrics of a plug-in, until `results rescore`"),
    Bound(_RECORD, ("task.score_normalization.*",), "finite, not of width 0; leaderboards take the task's"),
    Bound(_RECORD, ("algorithm", "config", "config_digest"),
          "the leaderboard's settings as they resolve today, the same values as in config.yaml, and their digest"),
    Bound(_RECORD, ("traits.*",), "those of the installed algorithm's class"),
    Bound(_RECORD, ("policy.model", "policy.init", "policy.revision", "policy.sft_recipe_sha256", "policy.kind"),
          "what task and configuration name"),
    Bound(_RECORD, ("policy.weights_sha256", "policy.tokenizer_sha256", "policy.base_weights_sha256"),
          "the files on this machine, where the model is shipped or here; equal between entries of one initial policy",
          "of a model that is not on this machine, and of an SFT policy that is not shipped"),
    Bound(_RECORD, ("policy.parameters",), "the numbers in the model's files, where it is here",
          "of a model that is not on this machine, and with an adapter"),
    Bound(_RECORD, ("budget.planned_tokens",), "the configuration's"),
    Bound(_RECORD, ("budget.tokens", "budget.episodes", "budget.iterations", "budget.optimizer_steps"),
          "the last line of training; 0 where nothing is learned"),
    Bound(_RECORD, ("results.*.n", "results.*.metrics.*.n"), "the prompts that configuration and task ask for"),
    Bound(_RECORD, ("results.*.metrics.*.value",),
          "the task's metrics, inside their bounds; on the validation split the last evaluation; on the test split "
          "what `results rescore` computes"),
    Bound(_RECORD, ("results.*.metrics.*.per_sample",), "whether samples.parquet has the column"),
    Bound(_RECORD, ("results.*.reward", "results.*.reward_components.*"),
          "means over the completions; the parts are the terms of the task's reward"),
    Bound(_RECORD, ("results.*.kl_to_reference",),
          "null if, and only if, no policy wrote the completions; 0 but for rounding where nothing is learned; "
          "else, for n sampled completions, at least -30/n nats less rounding, which an honest run misses with a "
          "probability of e^-30; at most 104 nats (the smallest probability in single precision) times "
          "`completion.max_tokens`",
          f"its value: {_AGAIN}"),
    Bound(_RECORD, ("results.*.mean_length", "results.*.truncated_share"),
          "means over the completions; counts of whole tokens and completions inside the task's limits"),
    Bound(_RECORD, ("fidelity.*",), "the worst values of the lines of training, and the flags that follow from them"),
    Bound(_RECORD, ("events.*",), "known names; at most as many as the task has samples (prompts and "
          "references), and as the run has completions, "
          "tokens and sittings", f"the counts: {_AGAIN}"),
    Bound(_RECORD, ("curves.*", "samples.*"), "name, sha256 and rows of the files"),
    Bound(_RECORD, ("provenance.*",), "versions, package names and a device by their form; one line of plain "
          "text each, "
          "without `<` and `>` but for the command, which has at most 2,000 characters",
          "all else: where and with what a run was made is its maker's word"),
    Bound(_RECORD, ("time.started", "time.finished"), "in this order, between 2025 and one day from now, "
          "written as the run writes them, "
          "with an offset between -12 and +14 hours",
          "when it was: the clock is its maker's"),
    Bound(_RECORD, ("time.*_s",), "not negative; the parts sum to at most `wall_s`; 0 for parts that do not occur",
          "how long it took"),
    Bound(_RECORD, ("time.peak_memory_mb", "time.peak_memory_of"), "not negative", "how much it was"),
    Bound(_RECORD, ("content_sha256",), "",
          "not compared with the content in a submission; `leaderboard run` compares it before it takes a run as done"),
    Bound(_CURVES, ("iteration",), "of training 1, 2, …; of evaluations 0, every k-th and the last"),
    Bound(_CURVES, ("tokens", "episodes", "optimizer_steps"),
          "grow; in an iteration as many episodes as configured, of 1 to `completion.max_tokens` tokens; training ends "
          "with the first iteration that reaches the budget"),
    Bound(_CURVES, ("progress",), "tokens over budget, at most 1"),
    Bound(_CURVES, ("rollout/length", "rollout/truncated_share"), "of the iteration's tokens and episodes"),
    Bound(_CURVES, ("rollout/kl_charged",), "`rollout/kl` times `rollout/kl_coefficient`"),
    Bound(_CURVES, ("rollout/*", "update/*"), "all that training logs, finite; norms and entropies not negative, "
          "shares between 0 and 1; names of letters, digits, `_`, `.`, `/` and `-`; not those of another run",
          f"their values: {_AGAIN}"),
    Bound(_CURVES, ("reward", "kl_to_reference", "mean_length", "truncated_share", "metric/*"),
          "as in the record's results; the last evaluation is the record's; no evaluation of another seed",
          f"the values of earlier evaluations, whose completions are not kept: {_AGAIN}"),
    Bound(_SAMPLES, ("sample_id", "prompt_sha256", "prompt", "references", "decoding"),
          "the task's test prompts, in order, once for each decoding that the configuration asks for"),
    Bound(_SAMPLES, ("seed_index",), "0"),
    Bound(_SAMPLES, ("completion_ids",),
          "ids of the tokenizer, as many as the task allows; an end token last, and only there, if and only if "
          "`terminated`; not those of another run",
          f"that the policy answered so: {_AGAIN}"),
    Bound(_SAMPLES, ("completion",), "the text of `completion_ids`, where the tokenizer is here",
          "of a tokenizer that is not on this machine or that needs code of its own"),
    Bound(_SAMPLES, ("terminated",), "not before the limit of tokens without an end token"),
    Bound(_SAMPLES, ("reward", "reward/*"), "finite; the sum of its parts; what `results rescore` computes"),
    Bound(_SAMPLES, ("info",),
          "JSON of at most 1,000,000 characters: texts, numbers, true, false, null, of the task's metrics and reward; "
          "what `results rescore` computes"),
    Bound(_SAMPLES, ("metric/*",), "the task's metrics inside their bounds; what `results rescore` computes"),
    Bound(_CHECKS, ("level", "retrained.*"), "levels that a command writes, with their evidence"),
    Bound(_CHECKS, ("records",),
          "digests of the entry's records by plain seeds, else the check has lapsed; no check twice"),
    Bound(_CHECKS, ("date",), "a plain date between 2025 and one day from now"),
    Bound(_CHECKS, ("by", "package_version"), "one line of plain text",
          "who checked: a reviewer is shown every check that is new"),
)  # fmt: skip
"""Types and limits of size also hold: no text for a number, nothing unknown, nothing twice."""


def table() -> str:
    """Returns the bounds as a table in Markdown."""
    lines = ["| file | fields | checked | believed |", "| --- | --- | --- | --- |"]
    for bound in BOUNDS:
        fields = ", ".join(f"`{field}`" for field in bound.fields)
        lines.append(f"| {bound.file} | {fields} | {bound.bound} | {bound.believed} |")
    return "\n".join(lines)
