"""The files that `lmrl-bench task new` writes, as templates for `str.format`."""

from __future__ import annotations

from typing import Final

DATA_FILE: Final = "  {split}: {{path: data/{split}.jsonl.gz, rows: {rows}, sha256: {sha256}}}"

META: Final = "\n  # meta: [{columns}]   # further columns of the rows: name here what rewards or metrics read"

BY_HASH: Final = "by a hash of the prompt (80 / 10 / 10), so rows with one prompt stay together"
OWN_SPLITS: Final = "the data's own"
PARTLY_OWN: Final = (
    "the data's own; {missing} taken from the training rows by a hash of the prompt (10 % each)"
)

METRICS: Final = {
    "short": {
        "reward": "exact-match",
        "reward_name": "exact match",
        "held_out": "chrf",
        "held_out_name": "chrF",
    },
    "words": {
        "reward": "rouge-l",
        "reward_name": "ROUGE-L",
        "held_out": "chrf",
        "held_out_name": "chrF",
    },
    "characters": {
        "reward": "chrf",
        "reward_name": "chrF (ROUGE reads a to z and digits only)",
        "held_out": "exact-match",
        "held_out_name": "exact match",
    },
    "checked": {
        "reward": "json-valid",
        "reward_name": "whether the answer is JSON (a placeholder: choose your own check)",
        "held_out": "distinct-1",
        "held_out_name": "share of different words",
    },
}
"""Reward and held-out metric by what the references are: labels and numbers, words, other scripts, or none."""

FROM_BASE: Final = (
    "policy: {start: base}           # without references there is no supervised start\n"
)

TASK: Final = """\
# What every field means: tasks/README.md. After a change: lmrl-bench task lint <this folder>
schema: 1
name: {yaml_name}                    # equal to the folder's name
version: 1                      # raise it on any change that can move a score
summary: One sentence that says what a good response is.
licence: unknown                # of the data: say it before you share the task
language: en                    # of the responses

data:                           # made from {source}
  reader: jsonl
  id: id
  references: {references}
{files}

prompt:
  template: "{{{{ prompt }}}}"      # Jinja2 over the columns of a row
  max_tokens: {prompt_tokens}
  truncate: right               # left, right, or error: refuse longer prompts

response:
  max_tokens: {response_tokens}

reward:                         # a weighted sum; any metric is a reward by its name (lmrl-bench metric list)
  terms:
    - {{name: {reward}}}

metrics:
  primary: {{name: {reward}}}
  held_out:                     # at least one that is not the reward
    - {{name: {held_out}}}
  others:
    - {{name: length}}

policies:
  default: nano-seq2seq
  kinds: [seq2seq, causal]

evaluation: {{temperature: 1.0}}  # sampled, as in training; greedy is reported beside it
"""

CARD: Final = """\
# {name}

One sentence that says what a good response is.

| | |
|---|---|
| data | {source} |
| licence | unknown: say it before you share the task |
| rows, train / validation / test | {rows} |
| split | {how} |
| further columns, for the template or as `data.meta` | {columns} |
| left out or changed | {notes} |
| reward | {reward_name} |
| held out | {held_out_name} |

First training prompt: {first}

## Known limits

Write here what the reward does not see, what the data lacks, and what a policy could exploit.

## Changes

- version 1: first version.
"""

PPO: Final = """\
# Settings of PPO for {name}; what is not named keeps its default
# (lmrl-bench algorithm show ppo).
algorithm: {{name: ppo}}
budget: {{tokens: 60000}}         # generated response tokens
{start}"""

SUPERVISED: Final = """\
# Settings of the supervised start of {name}, from which the other algorithms begin; it is trained once and kept
# (lmrl-bench algorithm show supervised). Fewer steps: sooner there, and a weaker start.
algorithm: {{name: supervised, batch_size: 16, max_steps: {steps}}}
"""
