"""Templates (for `str.format`) of the files that `lmrl-bench task new` writes."""

from __future__ import annotations

from typing import Final

DATA_FILE: Final = "  {split}: {{path: data/{split}.jsonl.gz, rows: {rows}, sha256: {sha256}}}"

META: Final = "\n  # meta: [{columns}]   # columns to keep: list those that rewards or metrics read"

BY_HASH: Final = "by a hash of the prompt (80 / 10 / 10), so rows with equal prompts stay together"
OWN_SPLITS: Final = "from the data"
PARTLY_OWN: Final = (
    "from the data; {missing} taken from the training rows by a hash of the prompt (10 % each)"
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
        "reward_name": "chrF (ROUGE reads only a to z and digits)",
        "held_out": "exact-match",
        "held_out_name": "exact match",
    },
    "checked": {
        "reward": "json-valid",
        "reward_name": "whether the answer is JSON (a placeholder: choose your own check)",
        "held_out": "distinct-1",
        "held_out_name": "share of distinct words",
    },
}
"""Reward and held-out metric for labels and numbers, words, other scripts, and no references."""

FROM_BASE: Final = "policy: {init: base}           # without references there is no SFT policy\n"

TASK: Final = """\
# All fields: tasks/README.md. After a change, run: lmrl-bench task lint <this folder>
schema: 1
name: {yaml_name}                    # must equal the folder's name
version: 1                      # increase it with any change that affects scores
summary: One sentence that says what a good completion is.
license: unknown                # of the data; state it before you share the task
language: en                    # of the completions

data:                           # made from {source}
  reader: jsonl
  id: id
  references: {references}
{files}

prompt:
  template: "{{{{ prompt }}}}"      # Jinja2 over the columns of a row
  max_tokens: {prompt_tokens}
  truncate: right               # left, right, or error: reject longer prompts

completion:
  max_tokens: {completion_tokens}

reward:                         # a weighted sum; any metric can be a term (lmrl-bench metric list)
  terms:
    - {{name: {reward}}}

metrics:
  primary: {{name: {reward}}}
  held_out:                     # at least one metric other than the reward
    - {{name: {held_out}}}
  others:
    - {{name: length}}

policy:
  default: nano-seq2seq
  kinds: [seq2seq, causal]

decoding: {{temperature: 1.0}}  # sampled, as in training; greedy is reported as well
"""

CARD: Final = """\
# {name}

One sentence that says what a good completion is.

| | |
|---|---|
| data | {source} |
| license | unknown; state it before you share the task |
| rows, train / validation / test | {rows} |
| split | {how} |
| additional columns, for the template or as `data.meta` | {columns} |
| dropped or changed | {notes} |
| reward | {reward_name} |
| held out | {held_out_name} |

First training prompt: {first}

## Known limits

Describe what the reward does not see, what the data lacks, and what a policy could exploit.

## Changes

- version 1: first version.
"""

PPO: Final = """\
# Settings of PPO for {name}; omitted ones keep their defaults
# (lmrl-bench algorithm show ppo).
algorithm: {{name: ppo}}
budget: {{tokens: 60000}}         # generated completion tokens
{start}"""

SFT: Final = """\
# Settings of the SFT policy of {name}, the initial policy of the other algorithms; trained
# once and reused (lmrl-bench algorithm show sft). Fewer steps are faster but give a weaker
# initial policy.
algorithm: {{name: sft, batch_size: 16, max_steps: {steps}}}
"""
