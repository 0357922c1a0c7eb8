"""The files that `lmrl-bench task new` writes, as templates for `str.format`."""

from __future__ import annotations

from typing import Final

DATA_FILE: Final = "  {split}: {{path: data/{split}.jsonl.gz, rows: {rows}, sha256: {sha256}}}"

TASK: Final = """\
# What every field means: tasks/README.md. After a change: lmrl-bench task lint <this folder>
schema: 1
name: {name}                    # equal to the folder's name
version: 1                      # raise it on any change that can move a score
summary: One sentence that says what a good response is.
licence: unknown                # of the data: say it before you share the task
language: en                    # of the responses

data:                           # made from {source}
  reader: jsonl
  id: id
  references: reference
{files}

prompt:
  template: "{{{{ prompt }}}}"      # Jinja2 over the columns of a row
  max_tokens: {prompt_tokens}
  truncate: right               # left, right, or error: refuse longer prompts

response:
  max_tokens: {response_tokens}

reward:                         # a weighted sum; any metric is a reward by its name
  terms:
    - {{name: rouge-l}}

metrics:
  primary: {{name: rouge-l}}
  held_out:                     # at least one that is not the reward
    - {{name: chrf}}
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
| split | by a hash of the prompt (80 / 10 / 10), so rows with one prompt stay together |
| reward | ROUGE-L |
| held out | chrF |

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
"""
