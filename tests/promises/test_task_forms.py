"""Tasks of other forms than a prompt with references run from end to end: chats, and rows without references."""

from __future__ import annotations

import json

import pytest
import yaml
from fixtures.runs import make_world
from fixtures.toy import toy_tokenizer

from lmrl_bench import run
from lmrl_bench.records.samples import read_samples
from lmrl_bench.verification.rescore import rescore

TEMPLATE = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
SYSTEM = "be kind."


@pytest.fixture
def chat(tmp_path, monkeypatch):
    """A world whose task is a chat, and whose policy has a chat template."""
    monkeypatch.chdir(tmp_path)
    messages = [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": "{{ prompt }}"},
    ]
    world = make_world(
        tmp_path, monkeypatch.setenv, prompt={"messages": messages, "max_tokens": 60}
    )
    path = world.model / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": TEMPLATE}))
    return world


@pytest.mark.parametrize("algorithm", ["grpo", "reinforce"])
def test_a_chat_is_trained_on_as_its_template_writes_it(chat, algorithm, monkeypatch):
    from lmrl_bench.envs.core import EpisodeCore

    read = []
    draw = EpisodeCore.sample_prompts

    def kept(core, *arguments):
        prompts = draw(core, *arguments)
        read.append((core, prompts))
        return prompts

    monkeypatch.setattr(EpisodeCore, "sample_prompts", kept)
    size = {"episodes_per_iteration": 4, "group_size": 4 if algorithm == "grpo" else 1}
    config = chat.given(algorithm={"name": algorithm, **size})
    record = run("toy", algorithm, config=config)
    assert record.status == "completed", record.error
    assert record.budget.iterations >= 2
    assert len(read) == record.budget.iterations
    tokenizer = toy_tokenizer()
    tokenizer.chat_template = TEMPLATE
    for core, prompts in read:
        for sample, ids, mask in zip(
            core.samples_of(prompts), prompts.ids, prompts.mask, strict=True
        ):
            expected = tokenizer.apply_chat_template(
                [
                    {"role": "system", "content": SYSTEM},
                    {"role": "user", "content": sample.messages[1][1]},
                ],
                add_generation_prompt=True,
                return_dict=False,
            )
            assert ids[mask].tolist() == expected
    shown = [row for row in read_samples(chat.root / "out").to_pylist() if row["prompt"]]
    assert all(SYSTEM in row["prompt"] for row in shown)
    rescore(chat.root / "out")


@pytest.fixture
def without_references(tmp_path, monkeypatch):
    """A world whose rows are prompts alone; the reward looks at the text."""
    monkeypatch.chdir(tmp_path)
    world = make_world(tmp_path, monkeypatch.setenv)
    path = world.folder / "task.yaml"
    content = yaml.safe_load(path.read_text())
    content["data"]["references"] = None
    content["reward"] = {"terms": [{"name": "regex", "args": {"pattern": "a"}}]}
    content["metrics"] = {
        "primary": {"name": "regex", "args": {"pattern": "a"}},
        "held_out": [{"name": "distinct-2"}],
    }
    path.write_text(yaml.safe_dump(content))
    for file in (world.folder / "data").glob("*.jsonl"):
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        lines = [json.dumps({"prompt": row["prompt"]}) for row in rows]
        file.write_text("\n".join(lines) + "\n")
    return world


def test_rows_without_references_are_trained_on_and_scored_again(without_references):
    world = without_references
    config = {name: part for name, part in world.given().items() if name != "policy"}
    # There is nothing to learn from before RL: the policy is the base model unless told otherwise.
    record = run("toy", "ppo", config=config)
    assert record.status == "completed", record.error
    assert {"regex", "distinct-2"} == set(record.results["test"].metrics)
    shown = [row for row in read_samples(world.root / "out").to_pylist() if row["prompt"]]
    assert {tuple(row["references"]) for row in shown} == {()}
    rescore(world.root / "out")
