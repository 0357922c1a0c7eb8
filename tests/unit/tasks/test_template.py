"""A template does bounded work, and whatever it raises is one message with the row."""

from __future__ import annotations

import time
from pathlib import Path

import jinja2
import pytest
from jinja2.sandbox import SandboxedEnvironment

from lmrl_bench.core.errors import DataError, TaskError
from lmrl_bench.tasks.readers import Row
from lmrl_bench.tasks.template import Template

VALUES = {
    "prompt": "Grüße",
    "n": 3,
    "words": ["a", "b"],
    "turns": [{"role": "user", "text": "hi"}, {"role": "bot", "text": None}],
    "gone": None,
    "share": 0.5,
}


def rendered(source: str, values=VALUES) -> str:
    return Template(source, Path("task.yaml"))(Row("rows.jsonl:7", values), "id-7")


@pytest.mark.parametrize(
    "source",
    [
        "{{ prompt }}",
        "Say {{ prompt }} {{ n }} times, {{ share }}.",
        "{% for word in words %}{{ loop.index }}:{{ word }} {% endfor %}",
        "{% for turn in turns %}{{ turn.role }}{% if turn.text %} {{ turn.text }}{% endif %};{% endfor %}",
        "{{ prompt ~ ' ' ~ n }}",
        "{{ prompt * n }}{{ n ** 2 }}{{ '%05d' % n }}{{ '{:>9}'.format(n) }}",
        "{{ words|join(', ') }}|{{ prompt|upper|center(20) }}|{{ prompt|replace('G', 'g') }}",
        "{{ words|tojson }}{{ words|map('upper')|list }}{{ words|batch(2)|list }}",
        "{% macro m(x) %}<{{ x }}>{% endmacro %}{{ m(prompt) }}{{ m(n) }}",
        "{% set x %}{{ prompt }}!{% endset %}{{ x }}",
        "{% for i in range(1000) %}{{ i }}{% endfor %}",
        "{% for k in turns if k.text is not none %}{{ k.text }}{% else %}nothing{% endfor %}",
        "{% filter upper %}{{ prompt }}{% endfilter %}",
    ],
)
def test_gives_what_jinja2_gives(source):
    environment = SandboxedEnvironment(
        undefined=jinja2.StrictUndefined, autoescape=False, keep_trailing_newline=True
    )
    assert rendered(source) == environment.from_string(source).render(VALUES)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("x{{ gone or '' }}", "x"),
        ("x{% if gone %}y{% endif %}", "x"),
        ("x{{ gone|default('d') }}", "xd"),
        ("x{% if gone is none and not gone is string %}y{% endif %}", "xy"),
        ("x{% if gone == none %}y{% endif %}", "xy"),
        ("{{ turns|tojson }}", '[{"role": "user", "text": "hi"}, {"role": "bot", "text": null}]'),
    ],
)
def test_null_can_be_asked_for(source, text):
    assert rendered(source) == text


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x{{ gone }}", "the column 'gone' is null; write {{ gone or '' }}"),
        ("x{{ gone ~ 'y' }}", "the column 'gone' is null"),
        ("x{{ gone|string }}", "the column 'gone' is null"),
        ("x{{ gone|upper }}", "the column 'gone' is null"),
        ("x{{ turns[1].text }}", "the column 'turns' is null"),
        ("x{{ none }}", "the value is null"),
        ("{{ 1/0 }}", "ZeroDivisionError"),
        ("{{ prompt + 1 }}", "TypeError"),
        ("{{ prompt.nothing }}", "has no attribute 'nothing'"),
        ("{{ promt }}", "'promt' is undefined"),
        ("{{ prompt.__class__.__mro__ }}", "unsafe"),
        ("{{ words[9] }}", "no element 9"),
        ("{{ prompt.upper }}", "not text; call it"),
        ("{{ words|map('upper') }}", "with |list or to text with |join"),
        ("{% include 'x' %}", "no loader"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "recurses endlessly"),
        ("{% for i in range(1000000000) %}x{% endfor %}", "OverflowError"),
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "passes"),
        ("{{ 'x' * 10**9 }}", "characters or items"),
        ("{{ 10 ** 9999999999 }}", "a power"),
        ("{{ '%1000000000d' % 1 }}", "width"),
        ("{{ '{:>1000000000}'.format(1) }}", "width"),
        ("{{ '{:>{}}'.format(1, 1000000000) }}", "width"),
        ("{{ '%*d' % (1000000000, 1) }}", "width"),
        ("{{ 'x'.center(1000000000) }}", "above 100,000"),
        ("{{ 'x'|center(1000000000) }}", "above 100,000"),
        ("{{ 'x'|indent(1000000000, true) }}", "above 100,000"),
        ("{{ [1]|slice(1000000000)|list }}", "above 100,000"),
        ("{{ [1]|batch(1000000000, 0)|list }}", "above 100,000"),
        ("{{ [1] * 1000000000 }}", "characters or items"),
        ("{{ ('x' * 9999).replace('', 'y' * 9999) }}", "characters or items"),
        ("{{ ('x' * 9999)|replace('', 'y' * 9999) }}", "characters or items"),
        ("{% set n = namespace(x='xxxxxxxx') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}"
         "{% endfor %}{{ n.x }}", "characters or items"),
        ("{% set n = namespace(x='xxxxxxxx') %}{% for i in range(60) %}{% set n.x = n.x + n.x %}"
         "{% endfor %}{{ n.x }}", "characters or items"),
        ("{% for i in range(9999) %}{{ 'x' * 9999 }}{% endfor %}", "characters or items"),
        ("{% set y %}{% for i in range(9999) %}{{ 'x' * 9999 }}{% endfor %}{% endset %}y", "characters"),
    ],
)  # fmt: skip
def test_whatever_it_raises_names_template_and_row(source, message):
    start = time.process_time()
    with pytest.raises(DataError) as raised:
        rendered(source)
    assert str(raised.value).startswith("rows.jsonl:7: prompt.template ")
    assert message in str(raised.value)
    assert time.process_time() - start < 5  # of this process: other load does not count


@pytest.mark.parametrize(
    "source",
    ["{{ [1, 2, 3]|random }}", "{{ lipsum() }}", "{{ prompt", "{% nothing %}", "{{ x|nothing }}", "{% break %}",
     "(" + "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}"],
)  # fmt: skip
def test_what_is_not_a_template_or_gives_another_prompt_each_time(source):
    with pytest.raises((TaskError, DataError), match=r"prompt\.template"):
        rendered(source)
