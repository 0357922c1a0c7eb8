"""Lint speaks about control tokens in data, double BOS, EOS behind prompts, unknown tokens and lossy tokenizers."""

from __future__ import annotations

import json

import pytest
from fixtures.tokenizers import byte_level_bpe, characters, word_piece
from fixtures.toy import tiny_causal, toy_task_folder

from lmrl_bench.envs.text_checks import text_checks
from lmrl_bench.tasks.task import Task


def messages(tmp_path, tokenizer, rows, **prompt):
    model = tmp_path / "model"
    tiny_causal("gpt2", 320).save_pretrained(model)
    tokenizer.save_pretrained(model)
    folder = toy_task_folder(
        tmp_path,
        policy={"default": str(model), "kinds": ["causal"]},
        prompt={"max_tokens": 60} | prompt,
    )
    for split in ("train", "validation", "test"):
        lines = [json.dumps({"prompt": f"{p} {split}", "references": [r]}) for p, r in rows]
        (folder / "data" / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    return [f"{found.place}: {found.message}" for found in text_checks(Task(folder))]


def test_nothing_to_say(tmp_path):
    assert messages(tmp_path, byte_level_bpe(), [("the red", "house"), ("a", "b  c")]) == []


def test_data_that_spell_control_tokens(tmp_path):
    found = messages(tmp_path, byte_level_bpe(), [("the", "was <s>9</s>"), ("a", "b")])
    assert found == [
        f"{split}: 1 of 2 rows spell control tokens of the policy's tokenizer, the first is '{split}-0' "
        "(<s>, </s>); they are encoded as characters"
        for split in ("train", "validation", "test")
    ]


def test_control_tokens_of_the_template_are_meant(tmp_path):
    rows = [("the", "b")]
    assert messages(tmp_path, byte_level_bpe(), rows, template="<|eot|>{{ prompt }}") == []


def test_bos_twice(tmp_path):
    rows = [("the", "b")]
    (found,) = messages(tmp_path, byte_level_bpe("<s> $A"), rows, template="<s>{{ prompt }}")
    assert "the template writes <s>, and the tokenizer puts one before each prompt" in found


def test_an_end_token_behind_prompts(tmp_path):
    (found,) = messages(tmp_path, byte_level_bpe("$A </s>"), [("the", "b")])
    assert "puts </s> after each prompt" in found


def test_unknown_tokens_and_lower_case(tmp_path):
    found = messages(tmp_path, word_piece(), [("the red", "House"), ("the ☃", "red")])
    assert "of the tokens are [UNK], in 1 of 2 rows, the first is 'train-1'" in found[0]
    assert "1 of 2 prompts come back from the policy's tokenizer as other texts" in found[1]
    assert "1 of 2 references come back" in found[2]
    assert "'House' becomes 'house'" in found[2]


@pytest.mark.parametrize("text", ["Ünï"])
def test_characters_that_are_dropped(tmp_path, text):
    found = messages(tmp_path, characters(), [("the", text)])
    assert any("references come back" in line for line in found)
