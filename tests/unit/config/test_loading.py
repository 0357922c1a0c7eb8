"""Every problem of a configuration is shown at once, with its place and what is allowed."""

import re
from pathlib import Path
from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from lmrl_bench.config.loading import Located, find_problems, load_yaml, validate
from lmrl_bench.config.run import RunConfig
from lmrl_bench.core.errors import ConfigError
from lmrl_bench.leaderboards.spec import LeaderboardSpec
from lmrl_bench.tasks.spec import TaskSpec


class KlSettings(BaseModel):
    model_config = ConfigDict(extra="forbid")
    coefficient: float = Field(0.1, ge=0)
    kind: Literal["fixed", "adaptive"] = "fixed"


class AlgorithmSettings(BaseModel):
    model_config = ConfigDict(extra="forbid")
    clip_range: float = 0.2
    kl: KlSettings = KlSettings()
    extra: KlSettings | str | None = None
    layers: list[KlSettings] = []


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(text):
        Path("c.yaml").write_text(text)
        return load_yaml(Path("c.yaml"))

    return write


def problems(model, located, prefix=""):
    with pytest.raises(ConfigError) as caught:
        validate(model, located, prefix)
    return str(caught.value).splitlines()


def test_a_good_configuration(write):
    config = validate(
        RunConfig, write("task: t\nalgorithm: {name: ppo, kl: {coefficient: 1e-3}}\n")
    )
    assert config.algorithm.name == "ppo"
    assert config.algorithm.model_extra == {"kl": {"coefficient": 1e-3}}


def test_all_problems_together_in_the_order_of_the_file(write):
    located = write(
        "task: t\nalgorithm:\n  name: ppo\nbudget:\n  tokns: 3\n  tokens: -1\n"
        "policy:\n  init: sftt\nevaluation: {greedy: no, every: true}\nseed: 1.5\n"
    )
    assert problems(RunConfig, located) == [
        "c.yaml:5: budget.tokns: unknown key (allowed: tokens); did you mean 'tokens'?",
        "c.yaml:6: budget.tokens: must be above 0, got -1",
        "c.yaml:8: policy.init: unknown value 'sftt' (allowed: 'sft' or 'base'); "
        "did you mean 'sft'?",
        "c.yaml:9: evaluation.every: expected a whole number, got true",
        "c.yaml:9: evaluation.greedy: expected true or false, got 'no'",
        "c.yaml:10: seed: expected a whole number, got 1.5",
    ]


def test_missing_keys_stand_at_their_mapping(write):
    lines = problems(RunConfig, write("seed: 1\nalgorithm:\n  clip_range: 0.2\n"))
    assert lines == [
        "c.yaml:1: task: missing, but required (task name or folder)",
        "c.yaml:2: algorithm.name: missing, but required (a registered algorithm; "
        "see `lmrl-bench algorithm list`)",
    ]


def test_task_spec_with_alias_union_and_validator(write):
    lines = problems(
        TaskSpec,
        write(
            "schema: 2\nscema: 1\nname: Bad Name\n"
            "data:\n  reader: jsonl\n  references: 7\n  train: 5\n"
            "reward:\n  terms:\n    - {name: a}\n    - {name: b, wight: 1}\n    - {clip: [1]}\n"
            "completion: {max_tokens: 3, min_tokens: 4}\n"
        ),
    )
    assert "c.yaml:1: schema: unknown value 2 (allowed: 1)" in lines
    assert any(line.startswith("c.yaml:2: scema: unknown key (allowed:") for line in lines)
    assert any(line.endswith("did you mean 'schema'?") for line in lines)
    assert "c.yaml:3: name: must match ^[a-z0-9][a-z0-9-]*$, got 'Bad Name'" in lines
    assert "c.yaml:6: data.references: expected text or a list, got 7" in lines
    assert "c.yaml:7: data.train: expected a mapping (key: value), got 5" in lines
    weight = next(
        line for line in lines if line.startswith("c.yaml:11: reward.terms[1].wight: unknown")
    )
    assert weight.endswith("did you mean 'weight'?")
    assert "c.yaml:12: reward.terms[2].name: missing, but required" in lines
    assert "c.yaml:13: completion: min_tokens (4) must be below max_tokens (3)" in lines


def test_leaderboard_spec(write):
    lines = problems(
        LeaderboardSpec, write("name: b\ntitle: B\ntasks: []\nentries: [{enrty: x}]\n")
    )
    assert "c.yaml:3: tasks: needs at least 1 item(s), has 0" in lines
    assert (
        "c.yaml:4: entries[0].enrty: unknown key (allowed: algorithm, config, entry); "
        "did you mean 'entry'?" in lines
    )


def test_a_part_keeps_its_key_path_and_lines(write):
    located = write("task: t\nalgorithm:\n  name: ppo\n  clip_rnge: 0.1\n  kl: {kind: adaptve}\n")
    part = located.sub("algorithm").without("name")
    assert problems(AlgorithmSettings, part) == [
        "c.yaml:4: algorithm.clip_rnge: unknown key (allowed: clip_range, extra, kl, layers); "
        "did you mean 'clip_range'?",
        "c.yaml:5: algorithm.kl.kind: unknown value 'adaptve' (allowed: 'fixed' or 'adaptive'); "
        "did you mean 'adaptive'?",
    ]


def test_plain_data_with_a_prefix():
    data = {"layers": [{"coefficient": 1}, {"coefficient": -1.0}]}
    line = "algorithm.layers[1].coefficient: must be at least 0, got -1.0"
    assert problems(AlgorithmSettings, data, "algorithm.") == [line]
    assert find_problems(AlgorithmSettings, data, "algorithm.") == [line]
    assert find_problems(AlgorithmSettings, {"clip_range": 1}) == []


def test_a_union_of_model_and_text(write):
    lines = problems(AlgorithmSettings, write("extra: {kid: fixed}\n"))
    assert len(lines) == 2
    assert lines[0].startswith("c.yaml:1: extra: expected text, got {'kid'")
    assert lines[1].endswith(
        "extra.kid: unknown key (allowed: coefficient, kind); did you mean 'kind'?"
    )


def test_text_is_not_a_number(write):
    assert problems(AlgorithmSettings, write("clip_range: '0.1'\n")) == [
        "c.yaml:1: clip_range: expected a number, got '0.1'"
    ]


@pytest.mark.parametrize("text", ["", "- a\n", "just text\n"])
def test_the_file_must_be_a_mapping(write, text):
    with pytest.raises(ConfigError, match=r"^c.yaml:1: expected a mapping"):
        write(text)


def test_unreadable_files(tmp_path):
    with pytest.raises(ConfigError, match=r"missing\.yaml: cannot be read: No such file"):
        load_yaml(tmp_path / "missing.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe9\n")
    with pytest.raises(ConfigError, match=r"latin\.yaml:1: not UTF-8"):
        load_yaml(tmp_path / "latin.yaml")


def test_sub_refuses_unknown_parts():
    with pytest.raises(KeyError):
        Located.plain({"a": 1}, "here").sub("b")


@pytest.mark.parametrize(
    ("content", "guess"),
    [
        (b"a: 1\nb: caf\xe9\n", ":2: not UTF-8 (byte 0xe9), looks like Latin-1"),
        (b"a: 1\nb: \x93x\x94\n", ":2: not UTF-8 (byte 0x93), looks like Windows-1252"),
        ("a: 1\n".encode("utf-16"), ":1: not UTF-8 (byte 0xff), looks like UTF-16"),
    ],
)
def test_another_encoding_is_named_with_its_line(tmp_path, content, guess):
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=re.escape(guess)):
        load_yaml(path)
