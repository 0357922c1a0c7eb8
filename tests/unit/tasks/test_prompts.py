"""Text from templates and text from data; chats as prompts."""

from __future__ import annotations

import json
import pickle

import pytest
import yaml
from fixtures.toy import toy_task_folder

from lmrl_bench.core.errors import LmrlBenchError
from lmrl_bench.tasks.readers import Row
from lmrl_bench.tasks.task import Task
from lmrl_bench.tasks.template import Template

ROW = Row("rows.jsonl:1", {"q": "was <s>9</s>", "n": 7, "parts": ["<s>", "b"], "x": ""})


@pytest.mark.parametrize(
    ("source", "written"),
    [
        ("{{ q }}", []),
        ("<s>{{ q }}", ["<s>"]),
        ("[Q] {{ q }}{{ x }} [A]", ["[Q] ", " [A]"]),
        ("{{ n }}: {{ q }}", [": "]),
        ("<s>{{ q | upper }}</s>", ["<s>", "</s>"]),
        ("{% for p in parts %}<p>{{ p }}{% endfor %}", ["<p>", "<p>"]),
        ("{% if n %}<s>{{ q ~ '<s>' }}{% endif %}!", ["<s>", "!"]),
        ("{% set all %}<s>{{ q }}{% endset %}{{ all }}<e>", ["<e>"]),
        ("{% set all %}{{ q }}{% endset %}{{ all | length }}<e>", []),
        ("no data", ["no data"]),
    ],
)
def test_what_a_template_wrote(source, written, tmp_path):
    """Everything that an expression gives is data, whatever it is made of; where it is not clear, all is."""
    template = Template(source, tmp_path / "task.yaml")
    prompt = template(ROW, "s")
    spans = template.written(ROW, prompt)
    assert [prompt[start:stop] for start, stop in spans] == written


def test_samples_carry_it_and_travel(tmp_path):
    folder = toy_task_folder(tmp_path, prompt={"template": "<s>{{ prompt }}", "max_tokens": 16})
    sample = Task(folder).samples("train")[0]
    assert sample.written == ((0, 3),)
    assert pickle.loads(pickle.dumps(sample)) == sample


MESSAGES = [
    {"role": "system", "content": "Be short."},
    {"role": "user", "content": "Q: {{ prompt }}"},
]


class TestMessages:
    def test_a_chat(self, tmp_path):
        folder = toy_task_folder(tmp_path, prompt={"messages": MESSAGES, "max_tokens": 40})
        sample = Task(folder).samples("train")[0]
        assert sample.messages == (("system", "Be short."), ("user", "Q: bad:"))
        assert sample.prompt == "system: Be short.\nuser: Q: bad:"
        assert pickle.loads(pickle.dumps(sample)) == sample

    @pytest.mark.parametrize(
        ("prompt", "message"),
        [
            ({"template": "{{ q }}"}, "prompt.template and prompt.messages exclude each other"),
            ({"truncate": "left"}, "would cut through the turns of a chat"),
            ({"messages": []}, "prompt.messages"),
            ({"messages": [{"role": "robot", "content": "x"}]}, "role"),
        ],
    )
    def test_what_does_not_fit_together(self, prompt, message, tmp_path):
        folder = toy_task_folder(tmp_path)
        edit_prompt(folder, {"messages": MESSAGES, "max_tokens": 40} | prompt)
        with pytest.raises(LmrlBenchError, match=message):
            Task(folder)

    def test_a_wrong_column_names_the_message(self, tmp_path):
        folder = toy_task_folder(tmp_path)
        wrong = [{"role": "user", "content": "{{ missing }}"}]
        edit_prompt(folder, {"messages": wrong, "max_tokens": 40})
        with pytest.raises(LmrlBenchError, match="missing"):
            Task(folder).samples("train")

    def test_tasks_without_a_chat_keep_their_digest(self, tmp_path):
        task = Task(toy_task_folder(tmp_path))
        assert "messages" not in json.dumps(task.spec.model_dump(mode="json", by_alias=True))


def edit_prompt(folder, prompt):
    path = folder / "task.yaml"
    fields = yaml.safe_load(path.read_text()) | {"prompt": prompt}
    path.write_text(yaml.safe_dump(fields))
