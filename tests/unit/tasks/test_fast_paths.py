"""Hand-written fast paths give what Jinja2 and json give."""

import json
from pathlib import Path

import jinja2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2.sandbox import SandboxedEnvironment

from lmrl_bench.core.errors import DataError
from lmrl_bench.core.strict_json import parse_json
from lmrl_bench.tasks.readers import Row
from lmrl_bench.tasks.template import Template

SANDBOX = SandboxedEnvironment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
EXAMPLES = settings(max_examples=200, deadline=None, derandomize=True)
pieces = st.lists(
    st.one_of(
        st.sampled_from(
            [
                "{{ a }}",
                "{{b}}",
                "{{ a }}{{ a }}",
                "{{ a.upper() }}",
                "{{- a }}",
                "{# x #}",
            ]
        ),
        st.text(st.characters(exclude_characters="{}#%"), max_size=6),
    ),
    max_size=6,
).map("".join)
values = st.one_of(st.text(max_size=5), st.integers(), st.lists(st.text(), max_size=2))


def outcome(action, *errors):
    try:
        return action()
    except errors:
        return "refused"


@EXAMPLES
@given(source=pieces, row=st.fixed_dictionaries({"a": st.text(max_size=5)}, optional={"b": values}))
def test_prompts_are_jinja2_s(source, row):
    source = f"Q {source}"
    expected = outcome(lambda: SANDBOX.from_string(source).render(row), Exception)
    template = Template(source, Path("task.yaml"))
    assert outcome(lambda: template(Row("here", row), "id"), DataError) == expected


@EXAMPLES
@given(
    st.one_of(
        st.dictionaries(st.text(max_size=3), values, max_size=3)
        .map(json.dumps)
        .filter(lambda line: "\\u0000" not in line),  # a NUL, which Python reads
        st.text(max_size=8),
        st.sampled_from(["{}x", "{} {}", " {}", "{}\r\n", "\ufeff{}", "{'a': 1}", '{"a":1}\u2028']),
    )
)
def test_lines_are_json_s(line):
    def parse(function):
        return outcome(lambda: repr(function(line)), ValueError)

    assert parse(parse_json) == parse(json.loads)


def test_a_missing_column_is_named():
    with pytest.raises(DataError, match=r"'b' is undefined \(columns: a\)"):
        Template("{{ a }} {{ b }}", Path("task.yaml"))(Row("file:1", {"a": "x"}), "id")
