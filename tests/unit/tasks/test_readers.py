"""Every format gives the same rows, and every damage one message that names the place."""

from __future__ import annotations

import gzip
import json

import pyarrow
import pyarrow.parquet
import pytest

from lmrl_bench.errors import DataError
from lmrl_bench.tasks.readers import READERS, read_csv, read_jsonl, read_parquet, reader_of_file

ROWS = [{"a": 'Grüße, "x"', "b": "1"}, {"a": "two\nlines", "b": "2"}, {"a": "c", "b": "3"}]


def jsonl(rows=ROWS) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


CSV = 'a,b\n"Grüße, ""x""",1\n"two\nlines",2\nc,3\n'.encode()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.jsonl", jsonl()),
        ("rows.jsonl.gz", gzip.compress(jsonl())),
        ("rows.csv", CSV),
        ("rows.csv.gz", gzip.compress(CSV)),
        ("bom.csv", b"\xef\xbb\xbf" + CSV),
    ],
)
def test_text_formats_give_the_same_rows(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    found = list(READERS.get(reader_of_file(path))(path))
    assert [dict(row.values) for row in found] == ROWS


def test_parquet_gives_the_same_rows_and_lists(tmp_path):
    path = tmp_path / "rows.parquet"
    rows = [{**row, "list": ["x", "y"]} for row in ROWS]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    assert [dict(row.values) for row in read_parquet(path)] == rows


def test_places_are_lines_of_the_file(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_bytes(CSV)
    assert [row.place for row in read_csv(path)] == [f"{path}:2", f"{path}:4", f"{path}:5"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (jsonl() + b'{"a": \n', r"rows\.jsonl:4: not JSON"),
        (jsonl() + b"[1]\n", r"rows\.jsonl:4: a JSON object is expected"),
        (b'{"a": "\xff"}\n', r"rows\.jsonl: not UTF-8"),
    ],
)
def test_bad_jsonl_names_the_line(tmp_path, content, message):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        list(read_jsonl(path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a,b\n1,2\n3\n", r"rows\.csv:3: .*2 fields \(a, b\)"),
        (b"a,b\n1,2,3\n", r"rows\.csv:2: .*2 fields"),
        (b'a,b\n"x"y,2\n', r"rows\.csv:2: not CSV"),
        (b"", r"rows\.csv:1: no header"),
    ],
)
def test_bad_csv_names_the_line(tmp_path, content, message):
    path = tmp_path / "rows.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        list(read_csv(path))


@pytest.mark.parametrize("damage", ["cut", "flipped", "not gzip"])
def test_corrupt_gzip_names_the_file(tmp_path, damage):
    path = tmp_path / "rows.jsonl.gz"
    whole = gzip.compress(jsonl([{"a": str(number)} for number in range(5000)]))
    middle = len(whole) // 2
    path.write_bytes(
        {
            "cut": whole[:middle],
            "flipped": whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :],
            "not gzip": b"plain text",
        }[damage]
    )
    with pytest.raises(DataError, match=r"rows\.jsonl\.gz:(\d+: not JSON| corrupt gzip)"):
        list(read_jsonl(path))


def test_bad_parquet_names_the_file(tmp_path):
    path = tmp_path / "rows.parquet"
    path.write_bytes(b"PAR1 nothing")
    with pytest.raises(DataError, match=r"rows\.parquet: not readable as Parquet"):
        list(read_parquet(path))


def test_unknown_ending_lists_the_formats(tmp_path):
    with pytest.raises(DataError, match=r"rows\.txt.*\.jsonl"):
        reader_of_file(tmp_path / "rows.txt")
