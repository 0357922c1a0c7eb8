"""Every format gives the same rows, and every damage one message that names the place."""

from __future__ import annotations

import gzip
import json

import pyarrow
import pyarrow.parquet
import pytest

from lmrl_bench.core.errors import DataError
from lmrl_bench.tasks.readers import READERS, read_csv, read_jsonl, read_parquet, reader_of_file

ROWS = [{"a": 'Grüße, "x"', "b": "1"}, {"a": "two\nlines", "b": "2"}, {"a": "c", "b": "3"}]


def jsonl(rows=ROWS) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


CSV = 'a,b\n"Grüße, ""x""",1\n"two\nlines",2\nc,3\n'.encode()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.jsonl", jsonl()),
        ("rows.jsonl.gz", gzip.compress(jsonl(), mtime=0)),
        ("rows.csv", CSV),
        ("rows.csv.gz", gzip.compress(CSV, mtime=0)),
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
        (jsonl() + b"[1]\n", r"rows\.jsonl:4: expected a JSON object"),
        (b'{"a": "\xff"}\n', r"rows\.jsonl:1: not UTF-8 \(byte 0xff at position 8\)"),
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
        (b"a,b\n1,2\n3\n", r"rows\.csv:3: .*has 2 \(a, b\)"),
        (b"a,b\n1,2,3\n", r"rows\.csv:2: .*header has 2"),
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
    with pytest.raises(DataError, match=r"rows\.parquet: cannot be read as Parquet"):
        list(read_parquet(path))


LONG = b'{"a": ' + b"[" * 5000 + b"]" * 5000 + b"}\n"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("r.jsonl", b'{"a": 1}\n{"a": 1, "a": 2}\n', "r.jsonl:2: not JSON (the key 'a' is given twice)"),
        ("r.jsonl", b'{"a": "\\ud83d"}\n', "r.jsonl:1: not JSON (character 1 of '\\ud83d' is half"),
        ("r.jsonl", b'{"a": NaN}\n', "r.jsonl:1: not JSON (NaN is not JSON; write null"),
        ("r.jsonl", b"{}\n" + LONG, "r.jsonl:2: not JSON (lists and mappings are nested deeper than 64"),
        ("r.jsonl", b'{"a": ' + b"1" * 5000 + b"}\n", "r.jsonl:1: not JSON (a number of 5000 digits"),
        ("r.jsonl", b'{"a": 1e999}\n', "r.jsonl:1: not JSON (the number 1e999 is beyond"),
        ("r.jsonl", '{"a": "x"}\n'.encode("utf-16"), "r.jsonl:1: not UTF-8, looks like UTF-16"),
        ("r.jsonl", '{"a": "x"}\n'.encode("utf-16-le"), "r.jsonl:1: not UTF-8, looks like UTF-16"),
        ("r.jsonl", '{"a": "x"}\n'.encode("utf-16-be"), "r.jsonl:1: not UTF-8, looks like UTF-16"),
        ("r.jsonl", '{"a": "x"}\n'.encode("utf-32"), "r.jsonl:1: not UTF-8, looks like UTF-32"),
        ("r.jsonl", b'{"a": 1}\n{"a": "caf\xe9"}\n', "r.jsonl:2: not UTF-8 (byte 0xe9 at position 11); it looks"),
        ("r.jsonl", b'{"a": "\x93x\x94"}\n', "it looks like Windows-1252"),
        ("r.csv", b"prompt,answer,answer\n1,2,3\n", "r.csv:1: the column 'answer' occurs twice"),
        ("r.csv", b",a,b\n0,1,2\n", "r.csv:1: column 1 of the header has no name"),
        ("r.csv", b"a,b,\n1,2,\n", "r.csv:1: column 3 of the header has no name"),
        ("r.csv", b"a,b\n1,2\n3\n", "r.csv:3: the row has 1 fields, but the header has 2 (a, b)"),
        ("r.csv", b"a,b\n1,x\0y\n", "r.csv:2: contains a NUL character"),
        ("r.csv", b'a,b\n1,2\n3,"4\n5,6\n', "r.csv:3: not CSV (a quote opened here is never closed"),
        ("r.csv", b"a;b\n1;2\n", "r.csv:1: the header is one column, 'a;b'; it looks separated by ';'"),
        ("r.csv", b"\n\n", "r.csv:1: no header line"),
        ("r.csv", "a,b\n1,2\n".encode("utf-16"), "r.csv:1: not UTF-8, looks like UTF-16"),
        ("r.csv", b"a,b\n1,caf\xe9\n", "r.csv:2: not UTF-8"),
        ("r.csv.gz", gzip.compress(b"a,b\n1,caf\xe9\n", mtime=0), "r.csv.gz:2: not UTF-8"),
        ("r.tsv", b"a\tb\n1\t2\t3\n", "r.tsv:2: the row has 3 fields"),
        ("r.tsv", b"a\ta\n1\t2\n", "r.tsv:1: the column 'a' occurs twice"),
    ],
)  # fmt: skip
def test_what_passed_in_silence_or_raised_names_the_line(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError) as raised:
        list(READERS.get(reader_of_file(path))(path))
    assert message in str(raised.value)
    assert str(raised.value).startswith(str(path))


def test_what_is_unusual_and_right_is_read(tmp_path):
    path = tmp_path / "rows.tsv"
    path.write_bytes('a\tb\r\n"x\ty"\tsays ""hi""\r\n\r\nß, z\t😀\r\n'.encode())
    assert [dict(row.values) for row in READERS.get("tsv")(path)] == [
        {"a": "x\ty", "b": 'says ""hi""'},
        {"a": "ß, z", "b": "😀"},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_bytes(
        b'\xef\xbb\xbf{"a": "\\ud83d\\ude00", "b": [null, true, 1.5, {"c": 10}]}\r\n\r\n{"a": 1}'
    )
    assert [dict(row.values) for row in read_jsonl(path)] == [
        {"a": "😀", "b": [None, True, 1.5, {"c": 10}]},
        {"a": 1},
    ]


def test_a_gzip_bomb_is_refused_and_repetitive_text_is_not(tmp_path):
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress((b" " * 999_999 + b"\n") * 80, compresslevel=1))
    with pytest.raises(
        DataError, match="expands to more than 100 times its size; if that is intended"
    ):
        list(read_jsonl(path))
    path.write_bytes(gzip.compress(b'{"a": "x"}\n' * 300_000))
    assert sum(1 for _ in read_jsonl(path)) == 300_000


@pytest.mark.parametrize(("name", "start"), [("r.jsonl", b'{"a": "'), ("r.csv", b"a,b\n1,")])
def test_a_line_without_end_is_refused(tmp_path, name, start):
    path = tmp_path / name
    path.write_bytes(start + b"x" * 10_000_100)
    with pytest.raises(
        DataError, match=r"r\.jsonl:1: the line has more than 10,000,000|r\.csv:2: not CSV"
    ):
        list(READERS.get(reader_of_file(path))(path))


def test_parquet_that_would_be_read_wrong(tmp_path):
    path = tmp_path / "rows.parquet"
    twice = pyarrow.Table.from_arrays(
        [pyarrow.array(["x"]), pyarrow.array(["y"])], names=["a", "a"]
    )
    pyarrow.parquet.write_table(twice, path)
    with pytest.raises(
        DataError, match=r"rows\.parquet: cannot be read as Parquet \(the column 'a' occurs"
    ):
        list(read_parquet(path))
    offsets, values = pyarrow.py_buffer(b"\0\0\0\0\2\0\0\0"), pyarrow.py_buffer(b"\xff\xfe")
    text = pyarrow.Array.from_buffers(pyarrow.string(), 1, [None, offsets, values])
    pyarrow.parquet.write_table(pyarrow.table({"a": text}), tmp_path / "text.parquet")
    with pytest.raises(DataError, match=r"text\.parquet: cannot be read as Parquet \(.*UTF8"):
        list(read_parquet(tmp_path / "text.parquet"))
    far = pyarrow.array([2**62], type=pyarrow.timestamp("us"))
    pyarrow.parquet.write_table(pyarrow.table({"a": far}), tmp_path / "far.parquet")
    with pytest.raises(DataError, match=r"far\.parquet: .*store the column as text"):
        list(read_parquet(tmp_path / "far.parquet"))


def test_unknown_ending_lists_the_formats(tmp_path):
    with pytest.raises(DataError, match=r"rows\.txt.*\.jsonl"):
        reader_of_file(tmp_path / "rows.txt")
