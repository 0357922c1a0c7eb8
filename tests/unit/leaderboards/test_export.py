"""One parquet file says what the records say, and nothing for what they do not say."""

import pyarrow.parquet as pq
import pytest
from fixtures.boards import fake_content, fake_expected, fake_spec, write_board, write_cell

from lmrl_bench.core.errors import RecordError
from lmrl_bench.leaderboards.export import COLUMNS, export
from lmrl_bench.leaderboards.spec import cells
from lmrl_bench.records.store import read_record

HOLES = {("docs-en-de", "a2c", 1): "failed", ("docs-en-de", "nlpo", 0): None}


@pytest.fixture
def spec():
    return fake_spec()


@pytest.fixture
def rows(tmp_path, spec):
    write_board(tmp_path, spec, HOLES)
    count = export(spec, tmp_path, tmp_path / "board.parquet", fake_expected)
    table = pq.read_table(tmp_path / "board.parquet")
    assert table.column_names == list(COLUMNS)
    assert table.num_rows == count
    return table.to_pylist()


def test_every_number_of_every_record_is_there_once(rows, tmp_path, spec):
    found = {
        (r["task"], r["row"], r["seed"], r["decoding"], r["role"], r["metric"]): r["value"]
        for r in rows
        if r["metric"]
    }
    expected = {}
    for cell in cells(spec):
        key = (cell.task, cell.label, cell.seed)
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
    assert len(rows) == len(expected) + len(HOLES)


def test_what_stands_next_to_a_number(rows, tmp_path, spec):
    cell = next(cell for cell in cells(spec) if cell.label == "nlpo")
    record = read_record(cell.folder(tmp_path, "fake"))
    (row,) = [
        r
        for r in rows
        if (r["task"], r["row"], r["seed"]) == (cell.task, "nlpo", 0)
        and (r["decoding"], r["metric"]) == ("test-unmasked", "perplexity")
    ]
    results = record.results["test-unmasked"]
    assert row["kl"] == results.kl_to_reference
    assert row["mean_length"] == results.mean_length
    assert row["tokens"] == record.budget.tokens
    assert row["record_digest"] == record.digest()
    assert row["record_id"] == record.id
    assert (row["split"], row["masked"], row["lower_is_better"]) == ("test", False, True)
    masked = {(r["row"], r["decoding"]) for r in rows if r["masked"]}
    assert masked == {("nlpo", name) for name in ("validation", "test", "test-greedy")}


def test_missing_is_not_zero(rows):
    holes = {(r["task"], r["row"], r["seed"]): r for r in rows if r["metric"] is None}
    assert {key: row["status"] for key, row in holes.items()} == {
        ("docs-en-de", "a2c", 1): "failed",
        ("docs-en-de", "nlpo", 0): "missing",
    }
    assert all(row["value"] is None for row in holes.values())
    assert all(row["value"] is not None for row in rows if row["metric"])


def test_the_same_records_give_the_same_bytes(rows, tmp_path, spec):
    export(spec, tmp_path, tmp_path / "again.parquet", fake_expected)
    assert (tmp_path / "again.parquet").read_bytes() == (tmp_path / "board.parquet").read_bytes()


def test_records_that_may_not_stand_on_the_board_are_refused(rows, tmp_path, spec):
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
        export(spec, tmp_path, tmp_path / "board.csv", fake_expected)
