"""One parquet file says what the records say, and nothing for what they do not say."""

import pyarrow.parquet as pq
import pytest
from fixtures.leaderboards import (
    fake_content,
    fake_expected,
    fake_spec,
    write_cell,
    write_leaderboard,
)

from lmrl_bench.core.errors import RecordError
from lmrl_bench.leaderboards.export import COLUMNS, export
from lmrl_bench.leaderboards.spec import cells
from lmrl_bench.records.store import read_record

HOLES = {("docs-en-de", "a2c", 1): "failed", ("docs-en-de", "nlpo", 0): None}


@pytest.fixture
def spec():
    return fake_spec()


@pytest.fixture
def entries(tmp_path, spec):
    write_leaderboard(tmp_path, spec, HOLES)
    count = export(spec, tmp_path, tmp_path / "leaderboard.parquet", fake_expected)
    table = pq.read_table(tmp_path / "leaderboard.parquet")
    assert table.column_names == list(COLUMNS)
    assert table.num_rows == count
    return table.to_pylist()


def test_every_number_of_every_record_is_there_once(entries, tmp_path, spec):
    found = {
        (r["task"], r["entry"], r["seed"], r["decoding"], r["role"], r["metric"]): r["value"]
        for r in entries
        if r["metric"]
    }
    expected = {}
    for cell in cells(spec):
        key = (cell.task, cell.entry, cell.seed)
        if key in HOLES:
            continue
        record = read_record(cell.folder(tmp_path, "fake"))
        roles = {"sentiment": "primary", "rouge-l": "held-out", "perplexity": "held-out"}
        for name, split in record.results.items():
            expected |= {(*key, name, roles[m], m): v.value for m, v in split.metrics.items()}
            expected[*key, name, "reward", "reward"] = split.reward
            expected |= {
                (*key, name, "reward part", part): value
                for part, value in split.reward_components.items()
            }
    assert found == expected
    assert len(entries) == len(expected) + len(HOLES)


def test_what_stands_next_to_a_number(entries, tmp_path, spec):
    cell = next(cell for cell in cells(spec) if cell.entry == "nlpo")
    record = read_record(cell.folder(tmp_path, "fake"))
    (entry,) = [
        r
        for r in entries
        if (r["task"], r["entry"], r["seed"]) == (cell.task, "nlpo", 0)
        and (r["decoding"], r["metric"]) == ("test-unfiltered", "perplexity")
    ]
    results = record.results["test-unfiltered"]
    assert entry["kl"] == results.kl_to_reference
    assert entry["mean_length"] == results.mean_length
    assert entry["tokens"] == record.budget.tokens
    assert entry["record_digest"] == record.digest()
    assert entry["record_id"] == record.id
    assert (entry["split"], entry["filtered"], entry["lower_is_better"]) == ("test", False, True)
    filtered = {(r["entry"], r["decoding"]) for r in entries if r["filtered"]}
    assert filtered == {("nlpo", name) for name in ("validation", "test", "test-greedy")}


def test_missing_is_not_zero(entries):
    holes = {(r["task"], r["entry"], r["seed"]): r for r in entries if r["metric"] is None}
    assert {key: entry["status"] for key, entry in holes.items()} == {
        ("docs-en-de", "a2c", 1): "failed",
        ("docs-en-de", "nlpo", 0): "missing",
    }
    assert all(entry["value"] is None for entry in holes.values())
    assert all(entry["value"] is not None for entry in entries if entry["metric"])


def test_the_same_records_give_the_same_bytes(entries, tmp_path, spec):
    export(spec, tmp_path, tmp_path / "again.parquet", fake_expected)
    assert (tmp_path / "again.parquet").read_bytes() == (
        tmp_path / "leaderboard.parquet"
    ).read_bytes()


def test_records_that_may_not_stand_on_the_leaderboard_are_refused(entries, tmp_path, spec):
    output = tmp_path / "new.parquet"
    cell = cells(spec)[0]
    content = fake_content(cell)
    content["task"]["metric_signatures"]["rouge-l"] = "rouge-l|v:2"
    write_cell(tmp_path, "fake", cell, content)
    with pytest.raises(RecordError, match="mixed metric signatures"):
        export(spec, tmp_path, output, fake_expected)
    content = fake_content(cell)
    content["task"]["version"] = 2
    write_cell(tmp_path, "fake", cell, content)
    with pytest.raises(RecordError, match=r"task\.version is 2 in the record, 1 today"):
        export(spec, tmp_path, output, fake_expected)
    assert not output.exists()


def test_the_name_says_what_it_is(tmp_path, spec):
    with pytest.raises(RecordError, match=r"let its name end with \.parquet"):
        export(spec, tmp_path, tmp_path / "leaderboard.csv", fake_expected)
