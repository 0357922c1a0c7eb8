"""Chat templates of every temper: each message arrives whole and the answer's turn is open, or one message says why."""

from __future__ import annotations

import pytest
from fixtures.tokenizers import byte_level_bpe

from lmrl_bench.core.errors import PolicyError
from lmrl_bench.data.sample import Sample
from lmrl_bench.data.tokenization import TextCodec

TURNS = "{% for m in messages %}<|eot|>{{ m.role }}\n{{ m.content }}</s>{% endfor %}"
GOOD = TURNS + "{% if add_generation_prompt %}<|eot|>assistant\n{% endif %}"
MESSAGES = (("system", "be old"), ("user", "the red house"))


def codec(template):
    tokenizer = byte_level_bpe()
    tokenizer.chat_template = template
    return TextCodec(tokenizer, max_prompt_tokens=400, max_completion_tokens=40)


def prompt(template, messages=MESSAGES):
    found = codec(template)
    return found.tokenizer.decode(found.encode(Sample("0", "x", ("a",), {}, (), messages)))


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ 1 / 0 }}", "division by zero"),
        ("{% for i in range(1000000000) %}x{% endfor %}", "Range too big"),
        ("{{ raise_exception('no system') }}", "no system"),
        ("{{ messages[0].foo.bar }}", "foo"),
        ("{{ messages|sort }}", "not supported"),
        ("{% for %}", "Expected an expression"),
        ({"rag": GOOD}, "multiple chat templates"),
    ],
)
def test_whatever_a_template_raises_is_one_message(template, reason):
    with pytest.raises(
        PolicyError, match=rf"(?s)rejects the task's messages \(system, user\).*{reason}"
    ):
        prompt(template)


@pytest.mark.parametrize(
    "template",
    [
        GOOD.replace("in messages", "in messages if m.role != 'system'"),
        "<|eot|>{{ messages[-1].content }}</s><|eot|>",
        GOOD.replace("m.content", "m.content|upper"),
    ],
)
def test_a_message_that_is_left_out_or_changed_is_refused(template):
    with pytest.raises(PolicyError, match=r"drops or changes the system message \('be old'\)"):
        prompt(template)


def test_a_template_that_does_not_open_the_answer_is_refused():
    with pytest.raises(PolicyError, match=r"ignores add_generation_prompt.*assistant"):
        prompt(TURNS)


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}{{ m.content }}</s>{% endfor %}",  # DialoGPT
        "{% for m in messages %}{% if m.role == 'assistant' %} {{ m.content }}</s>"
        "{% else %}[INST] {{ m.content }} [/INST]{% endif %}{% endfor %}",  # Mistral
        GOOD.replace("m.content", "m.content|trim"),
        {"default": GOOD, "rag": TURNS},
    ],
)
def test_templates_as_they_are_found_are_read(template):
    assert "the red house" in prompt(template, (("user", " the red house "),))


def test_characters_for_private_use_stay_in_messages():
    assert prompt(GOOD, (("user", "a\ue002b </s> \ue003"),)).startswith(
        "<|eot|>user\na\ue002b </s> \ue003</s>"
    )
