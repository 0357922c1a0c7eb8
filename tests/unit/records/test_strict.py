"""Records are read strictly: a string is not a number, a fraction not a count; nothing is given twice or left out."""

from __future__ import annotations

import json

import pytest
from fixtures.leaderboards import fake_content, fake_spec, write_cell

from lmrl_bench.core.errors import RecordError
from lmrl_bench.leaderboards.spec import cells
from lmrl_bench.records.parsing import parse_json
from lmrl_bench.records.record import RunRecord
from lmrl_bench.records.store import check_files, find_records, read_points, read_record

CELL = cells(fake_spec())[6]

WRONG = {
    "results.test.kl_to_reference": ["nan", "1.5", True, None, [], {}],
    "results.test.reward": ["0.5", False, None],
    "results.test.n": [64.0, "64", True, -1, 0],
    "results.test.mean_length": [-0.5, "30"],
    "results.test.truncated_share": [-0.1, 1.1, True],
    "results.test.metrics.sentiment.value": ["0.7", True],
    "results.test.metrics.sentiment.n": [64.5, -3],
    "results.test.metrics.sentiment.per_sample": [1, "yes"],
    "budget.tokens": [-1, 1.5, "40448", True, 2**63],
    "budget.planned_tokens": [0, -5],
    "budget.iterations": [-1, True],
    "seed": ["0", -1, 0.0, True],
    "task.version": ["1", 0, 1.0],
    "task.digest": ["x" * 64, "A" * 64, "", 5],
    "task.data.test.rows": [-1, "64"],
    "task.data.test.sha256": ["0" * 63],
    "task.metric_signatures.sentiment": ["a\nb", "a\u202eb", 5],
    "task.primary_metric": ["", "a\x1b[31m", 3],
    "policy.parameters": [0, -1, "2600000"],
    "policy.init": ["trained"],
    "policy.weights_sha256": ["1" * 63, None],
    "config_digest": ["zz"],
    "events.early_eos": [-1, 1.5, "2"],
    "fidelity.max_logprob_difference": [-1e-6, "0"],
    "fidelity.first_clip_fraction": [-0.1, 2.0],
    "fidelity.truncated_share": [1.5],
    "time.wall_s": [-1, "60", True],
    "time.cpu_s": [-0.1],
    "time.peak_memory_mb": [-1],
    "time.started": ["yesterday", "2026-01-02T03:04:05", 5],
    "time.finished": ["2026-13-01T00:00:00+00:00"],
    "provenance.threads": [0, "1"],
    "provenance.package_version": ["", "1\u2028"],
    "provenance.packages.torch": [5, ""],
    "provenance.dirty": ["no", 0],
    "error.iteration": [-1, "7"],
    "entry": ["a\u0000b", "../x", 3],
    "id": ["a\nb", 4],
}
CASES = [(path, value) for path, values in WRONG.items() for value in values]


def changed(path, value):
    content = json.loads(json.dumps(fake_content(CELL)))
    content["error"] = {"type": "E", "message": "m"}
    content["events"], content["fidelity"] = {}, {}
    inner = content
    *names, last = path.split(".")
    for name in names:
        inner = inner[name]
    inner[last] = value
    return content


@pytest.mark.parametrize(("path", "value"), CASES)
def test_a_value_of_another_type_or_range_is_refused_with_its_field(tmp_path, path, value):
    (tmp_path / "record.json").write_text(json.dumps(changed(path, value)))
    with pytest.raises(
        RecordError,
        match=rf"record\.json: (corrupt|not a valid record).*{path.split('.')[0]}|64 bits",
    ):
        read_record(tmp_path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b'{"a": 1, "a": 2}', "'a' is given twice"),
        (b'{"a": {"b": 1, "c": {}, "b": 1}}', "'b' is given twice"),
        (b'{"\\u0061": 1, "a": 2}', "'a' is given twice"),
        (b'{"a" :1, "x\\u003a": 1, "a":2}', "'a' is given twice"),
        (b'{"a": 99999999999999999999}', "64 bits"),
        (b'[-9223372036854775809]', "64 bits"),
        (b'{"a": ' + b"9" * 4000 + b"}", "64 bits"),
        (b'{"a": ' + b"9" * 100_000 + b"}", "number out of range"),
        (b'{"a": 1e999}', "not JSON compliant"),
        (b'{"a": NaN}', "expected value"),
        (b"[" * 5000, "recursion limit"),
        (b'{"a": "\\ud83d"}', "escape"),
        (b'{"a": "\xff"}', "unicode"),
        (b"", "EOF"),
    ],
)  # fmt: skip
def test_json_that_is_none_or_ambiguous(text, reason):
    with pytest.raises(ValueError, match=reason):
        parse_json(text)


@pytest.mark.parametrize(
    "value",
    [
        {"a": "b: c", "d": {"e": 'x": "y'}},
        {"Infinity": "NaN"},
        [2**63 - 1, -(2**62)],
        {"é": "\u20ac:"},
    ],
)
def test_json_comes_back(value):
    for ascii_only in (True, False):
        assert parse_json(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@pytest.mark.parametrize(
    "part", ["policy", "curves", "samples", "results.validation", "results.test"]
)
def test_a_completed_run_lacks_nothing(tmp_path, part):
    folder = write_cell(tmp_path, "fake", CELL, fake_content(CELL))
    content = json.loads((folder / "record.json").read_text())
    if "." in part:
        del content["results"][part.split(".")[1]]
    else:
        content[part] = None
    (folder / "record.json").write_text(json.dumps(content))
    record = read_record(folder)
    with pytest.raises(RecordError, match=f"a completed run has {part}, but this record does not"):
        check_files(folder, record)
    content |= {"status": "failed", "error": {"type": "E", "message": "m"}}
    assert RunRecord.model_validate(content).lacking() == []


def test_a_trial_of_a_tuning_has_no_test():
    content = fake_content(CELL) | {"curves": {"path": "c", "sha256": "0" * 64, "rows": 1}}
    content["config"]["evaluation"] = {"test_samples": 0}
    del content["results"]["test"]
    assert RunRecord.model_validate(content).lacking() == []


LINE = {
    "kind": "train",
    "iteration": 1,
    "tokens": 5,
    "episodes": 4,
    "optimizer_steps": 1,
    "progress": 0.1,
}
POINT = {"kind": "validation", "iteration": 0, "tokens": 0, "reward": 0.0, "kl_to_reference": 0.0,
         "mean_length": 3.0, "truncated_share": 0.0}  # fmt: skip


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (LINE | {"tokens": "5"}, "tokens: Input should be a valid integer"),
        (LINE | {"episodes": True}, "episodes: Input should be a valid integer"),
        (LINE | {"progress": 1.5}, "progress: Input should be less than or equal to 1"),
        (LINE | {"update/gradient_norm": "nan"}, "gradient_norm: Input should be a valid number"),
        (LINE | {"bonus": 1.0}, "unknown field 'bonus'"),
        (LINE | {"kind": "extra"}, "kind: Input should be 'train'"),
        (POINT | {"metric/x": True}, "metric/x: Input should be a valid number"),
        (POINT | {"rollout/kl": 0.5}, "unknown field 'rollout/kl'"),
        (POINT | {"iteration": -1}, "iteration: Input should be greater than or equal to 0"),
    ],
)
def test_lines_of_curves_have_types(tmp_path, line, reason):
    (tmp_path / "curves.jsonl").write_text(f"{json.dumps(POINT)}\n{json.dumps(line)}\n")
    with pytest.raises(RecordError, match=rf"curves\.jsonl:2: .*{reason}"):
        read_points(tmp_path)


def test_records_are_found_below_a_text(tmp_path):
    write_cell(tmp_path, "fake", CELL, fake_content(CELL))
    assert find_records(str(tmp_path)) == find_records(tmp_path)
    assert len(find_records(str(tmp_path))) == 1
