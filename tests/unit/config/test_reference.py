"""The reference of settings is the configuration's own classes: nothing missing, nothing undescribed."""

from __future__ import annotations

from pathlib import Path

from fixtures.runs import call

import lmrl_bench.config
from lmrl_bench.config.reference import BEGIN, END, settings, settings_markdown
from lmrl_bench.config.run import RunConfig


def names(data, prefix=""):
    for key, value in data.items():
        if isinstance(value, dict):
            yield from names(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def test_every_setting_is_listed_with_its_default_and_described():
    default = RunConfig(task="t", algorithm={"name": "ppo"}).model_dump(mode="json")
    found = {setting.name: setting for setting in settings()}
    assert set(found) >= set(names(default))
    assert set(found) - set(names(default)) == {
        f"policy.adapter.{name}" for name in ("kind", "rank", "alpha", "targets")
    }
    assert [name for name, setting in found.items() if not setting.description] == []
    assert found["budget.tokens"][1:3] == ("whole number > 0", "60000")
    assert found["policy.init"][1:3] == ("sft | base", "sft")
    assert found["evaluation.temperature"][1:3] == ("number > 0", "null")
    assert found["sampling.temperature"].default == "1.0"
    assert found["evaluation.greedy"].default == "true"
    assert found["task"].default == ""


def test_the_readme_holds_the_table():
    """Made again by `python -m lmrl_bench.config.reference`."""
    text = (Path(lmrl_bench.config.__file__).parent / "README.md").read_text(encoding="utf-8")
    assert text.partition(BEGIN)[2].partition(END)[0] == f"\n{settings_markdown()}"


def test_the_command_prints_all_or_a_part(capsys):
    shown = call(capsys, "settings")
    assert "budget.tokens = 60000  (whole number > 0)" in shown.out
    part = call(capsys, "settings", "evaluation", "--json").json
    assert {row["name"].split(".")[0] for row in part} == {"evaluation"}
    refused = call(capsys, "settings", "evalution")
    assert (refused.code, "did you mean 'evaluation'?" in refused.err) == (2, True)
