"""Lint and preview count a chat as the policy reads it, and control tokens in data as characters."""

from __future__ import annotations

import csv

import pytest
import yaml
from fixtures.checkpoints import write
from fixtures.tokenizers import byte_level_bpe

from lmrl_bench.envs.task_checks import token_counters
from lmrl_bench.tasks.catalog import load_task
from lmrl_bench.tasks.lint import lint
from lmrl_bench.tasks.preview import preview
from lmrl_bench.tasks.scaffold import new_task

TEMPLATE = (
    "<s>{% for m in messages %}<|eot|>{{ m.role }}\n{{ m.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|eot|>assistant\n{% endif %}"
)
MESSAGES = [{"role": "system", "content": "be old"}, {"role": "user", "content": "{{ prompt }}"}]


@pytest.fixture
def chat(tmp_path):
    tokenizer = byte_level_bpe()
    tokenizer.chat_template = TEMPLATE
    write(tmp_path / "policy", tokenizer, vocab_size=304)
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        rows = ([f"the red house {row} was old?", ["yes", "no"][row % 2]] for row in range(40))
        csv.writer(file).writerows([["prompt", "answer"], *rows])
    new_task("chat", tmp_path, tmp_path / "rows.csv")
    return tmp_path


def opened(folder, limit):
    file = folder / "chat" / "task.yaml"
    spec = yaml.safe_load(file.read_text())
    spec["prompt"] = {"messages": MESSAGES, "max_tokens": limit}
    spec["policy"] = {"default": str(folder / "policy"), "kinds": ["causal"]}
    file.write_text(yaml.safe_dump(spec))
    return load_task(folder / "chat")


def test_a_chat_is_counted_as_its_template_writes_it(chat):
    task = opened(chat, 100)
    tokenizer = byte_level_bpe()
    tokenizer.chat_template = TEMPLATE
    sample = task.samples("train")[0]
    turns = [{"role": role, "content": content} for role, content in sample.messages]
    rendered = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    expected = len(tokenizer(rendered, add_special_tokens=False)["input_ids"])
    (row,) = preview(task, 1, "train", *token_counters(task))
    assert row.prompt_tokens == expected


def test_lint_refuses_a_chat_that_is_too_long_only_as_a_chat(chat):
    task = opened(chat, 100)
    counters = token_counters(task)
    longest = max(counters[1](task.samples("train")))
    assert longest > max(counters[0]([sample.prompt for sample in task.samples("train")]))
    for limit, refused in ((longest, False), (longest - 1, True)):
        task = opened(chat, limit)
        found = lint(task, counters[0], count_prompts=counters[1])
        said = [finding for finding in found if finding.place == "prompts of 'train'"]
        assert bool(said) is refused


def test_control_tokens_in_data_are_counted_as_characters(chat):
    count_tokens, _ = token_counters(opened(chat, 100))
    assert count_tokens(["</s>"])[0] > 1
