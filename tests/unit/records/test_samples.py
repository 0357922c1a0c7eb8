"""Samples come back as they were, and the same rows give the same bytes."""

import hashlib

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmrl_bench.core.errors import RecordError
from lmrl_bench.records.samples import info_of
from lmrl_bench.records.store import SHOWN_SAMPLES, read_samples, write_samples


def row(**changes):
    return {
        "sample_id": "a", "decoding": "test", "prompt": "p", "references": ["r"], "completion": "o",
        "completion_ids": [1, 2], "terminated": True, "reward": 0.5, **changes,
    }  # fmt: skip


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
ROWS = st.lists(
    st.builds(
        row,
        sample_id=TEXT,
        decoding=st.sampled_from(["test", "test-greedy"]),
        prompt=TEXT,
        references=st.lists(TEXT, max_size=2),
        completion=TEXT,
        completion_ids=st.lists(st.integers(0, 2**31 - 1), max_size=4),
        terminated=st.booleans(),
        reward=st.floats(allow_nan=False),
    ),
    max_size=12,
)


@settings(deadline=None, max_examples=40)
@given(ROWS)
def test_round_trip_and_equal_bytes(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("s")
    first = write_samples(folder, rows)
    assert write_samples(folder, rows) == first
    assert first.rows == len(rows)
    for before, after in zip(rows, read_samples(folder).to_pylist(), strict=True):
        same = ("sample_id", "decoding", "completion", "completion_ids", "terminated", "reward")
        assert {name: after[name] for name in same} == {name: before[name] for name in same}
        assert after["prompt_sha256"] == hashlib.sha256(before["prompt"].encode()).hexdigest()
        assert after["seed_index"] == 0


def test_columns_types_and_missing_scores(tmp_path):
    write_samples(tmp_path, [row(**{"metric/b": 1.0, "reward/a": 2.0}), row(**{"metric/b": 3.0})])
    schema = pq.read_schema(tmp_path / "samples.parquet")
    assert schema.names[-2:] == ["metric/b", "reward/a"]
    assert str(schema.field("completion_ids").type) == "list<element: int32>"
    assert read_samples(tmp_path).column("reward/a").to_pylist() == [2.0, None]


def test_prompt_texts_are_kept_for_the_first_rows_of_each_decoding(tmp_path):
    rows = [row(sample_id=str(i), decoding=d) for d in ("test", "test-greedy") for i in range(20)]
    write_samples(tmp_path, rows)
    table = read_samples(tmp_path)
    kept = [text is not None for text in table.column("prompt").to_pylist()]
    assert kept == ([True] * SHOWN_SAMPLES + [False] * (20 - SHOWN_SAMPLES)) * 2
    assert [refs is not None for refs in table.column("references").to_pylist()] == kept


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{k: v for k, v in row().items() if k != "references"}], "row 0 lacks references"),
        ([row(bleu=1.0)], "unknown columns bleu"),
        ([row(completion_ids=["x"])], "a sample cannot be written"),
        ([row(completion_ids=[2**40])], "a sample cannot be written"),
    ],
)
def test_wrong_rows_are_refused(tmp_path, rows, message):
    with pytest.raises(RecordError, match=message):
        write_samples(tmp_path, rows)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["sample_id", "decoding", "completion", "completion_ids", "reward"]
)
def test_an_empty_field_is_not_an_answer(tmp_path, name):
    """Only what is not shown, prompts and references, may be empty; a leaderboard would show the rest."""
    write_samples(tmp_path, [row(), row(sample_id="b")])
    table = pq.read_table(tmp_path / "samples.parquet")
    values = [None, *table[name].to_pylist()[1:]]
    column = pa.array(values, table.schema.field(name).type)
    table = table.set_column(table.column_names.index(name), name, column)
    pq.write_table(table, tmp_path / "samples.parquet")
    with pytest.raises(RecordError, match=f"has an empty field in {name}; run again"):
        read_samples(tmp_path)
    assert read_samples(tmp_path, without=[name]).num_rows == 2


def test_unreadable_files(tmp_path):
    with pytest.raises(RecordError, match=r"samples\.parquet: cannot be read"):
        read_samples(tmp_path)
    (tmp_path / "samples.parquet").write_bytes(b"nothing")
    with pytest.raises(RecordError, match=r"samples\.parquet: cannot be read"):
        read_samples(tmp_path)


def test_facts_are_a_column_of_json_only_where_there_are_any(tmp_path):
    plain = write_samples(tmp_path, [row(), row(info={})])
    assert "info" not in pq.read_schema(tmp_path / "samples.parquet").names
    assert write_samples(tmp_path, [row(), row()]).sha256 == plain.sha256
    facts = {"reward/a/z": "é", "metric/b/n": 2, "reward/a/ok": True, "reward/a/x": 0.5}
    info = write_samples(tmp_path, [row(info=facts), row()])
    assert write_samples(tmp_path, [row(info=dict(sorted(facts.items()))), row()]) == info
    first, second = read_samples(tmp_path).to_pylist()
    assert info_of(first) == facts
    assert type(info_of(first)["reward/a/ok"]) is bool
    assert info_of(second) == info_of({"sample_id": "a"}) == {}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "is not JSON"),
        ("[1]", "is not a mapping"),
        ("{}", "is not a mapping with at least one fact"),
        ('{"reward/a/b": [1]}', "has 'reward/a/b': '.1.'; facts are texts"),
        ('{"other": 1}', "has 'other'"),
        ('{"reward/a/b": NaN}', "is not JSON"),
        ('{"reward/a/b": "' + "x" * 1_000_000 + '"}', "has 1,000,018 characters"),
    ],
)
def test_facts_of_others_are_read_strictly(text, reason):
    with pytest.raises(RecordError, match=f"info of the sample a {reason}"):
        info_of({"sample_id": "a", "info": text})


def test_a_column_of_facts_is_text(tmp_path):
    write_samples(tmp_path, [row(info={"reward/a/b": 1})])
    table = pq.read_table(tmp_path / "samples.parquet").drop(["info"])
    table = table.append_column("info", pa.array([1.0]))
    pq.write_table(table, tmp_path / "samples.parquet")
    with pytest.raises(RecordError, match="columns of another type: info"):
        read_samples(tmp_path)
