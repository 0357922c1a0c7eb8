"""Mutators, the fuzzer's changes to a file: each says whether the result must be refused.

`ALWAYS`: no reader may accept it. `STRICT`: strictly typed files (records, checks, specifications)
must refuse it. `MAY`: accepted or refused, but never with a traceback.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Must = Literal["ALWAYS", "STRICT", "MAY"]


@dataclass(frozen=True)
class Mutator:
    """A change of a file's bytes; returns None where it does not apply.

    Attributes:
        whole: It reads a structure with a library, which needs a file that is still undamaged.
    """

    name: str
    must: Must
    change: Callable[[random.Random, bytes], bytes | None]
    whole: bool = False


class Raw(str):
    """Text that is written into JSON as it is."""


def dumps(value: Any) -> str:
    """As `json.dumps`, with repeated keys (a list of pairs marked `Pairs`) and raw text."""
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, Pairs):
        return "{" + ", ".join(f"{json.dumps(key)}: {dumps(part)}" for key, part in value) + "}"
    if isinstance(value, dict):
        return dumps(Pairs(value.items()))
    if isinstance(value, list):
        return "[" + ", ".join(map(dumps, value)) + "]"
    return json.dumps(value)


class Pairs(list):
    """The items of an object, keys possibly repeated."""


HUGE = Raw("9" * 5000)
NESTED = Raw("[" * 5000 + "]" * 5000)
NESTED_OBJECTS = Raw('{"a":' * 5000 + "1" + "}" * 5000)


# --- Bytes: any file ---


def truncate(rng: random.Random, data: bytes) -> bytes | None:
    return data[: rng.randrange(1, len(data) - 2)] if len(data) > 4 else None


def flip_bit(rng: random.Random, data: bytes) -> bytes | None:
    if not data:
        return None
    place = rng.randrange(len(data))
    return data[:place] + bytes([data[place] ^ (1 << rng.randrange(8))]) + data[place + 1 :]


def insert_bytes(rng: random.Random, data: bytes) -> bytes:
    place = rng.randrange(len(data) + 1)
    return data[:place] + rng.randbytes(rng.randrange(1, 20)) + data[place:]


def drop_block(rng: random.Random, data: bytes) -> bytes | None:
    if len(data) < 8:
        return None
    start = rng.randrange(len(data) - 4)
    return data[:start] + data[start + rng.randrange(1, 4 + len(data) // 4) :]


def repeat_block(rng: random.Random, data: bytes) -> bytes | None:
    if len(data) < 8:
        return None
    start = rng.randrange(len(data) - 4)
    stop = start + rng.randrange(1, 4 + len(data) // 4)
    return data[:stop] + data[start:stop] + data[stop:]


def empty(rng: random.Random, data: bytes) -> bytes | None:
    return b"" if data else None


def random_bytes(rng: random.Random, data: bytes) -> bytes:
    return b"\xff\x00" + rng.randbytes(rng.randrange(1, 2000))


def not_utf8(rng: random.Random, data: bytes) -> bytes:
    place = data.find(b"a", rng.randrange(len(data) + 1))
    place = place if place >= 0 else len(data)
    return data[:place] + b"\xff\xfe\xfa" + data[place:]


def utf16(rng: random.Random, data: bytes) -> bytes | None:
    return _text(data, lambda text: text.encode("utf-16"))


def byte_order_mark(rng: random.Random, data: bytes) -> bytes:
    return b"\xef\xbb\xbf" + data


def zeros(rng: random.Random, data: bytes) -> bytes:
    place = rng.randrange(len(data) + 1)
    return data[:place] + b"\x00" * rng.randrange(1, 9) + data[place:]


def line_ends(rng: random.Random, data: bytes) -> bytes | None:
    end = rng.choice([b"\r\n", b"\r", b"\xe2\x80\xa8", b"\x0c"])
    return data.replace(b"\n", end) if b"\n" in data else None


def gzip_of(rng: random.Random, data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


BYTES = [
    Mutator("truncated", "MAY", truncate),
    Mutator("a bit flipped", "MAY", flip_bit),
    Mutator("random bytes inserted", "MAY", insert_bytes),
    Mutator("a block dropped", "MAY", drop_block),
    Mutator("a block repeated", "MAY", repeat_block),
    Mutator("empty", "ALWAYS", empty),
    Mutator("random bytes", "ALWAYS", random_bytes),
    Mutator("zeros inserted", "MAY", zeros),
    Mutator("packed by gzip", "MAY", gzip_of),
]
TEXT = [
    *BYTES,
    Mutator("not UTF-8", "ALWAYS", not_utf8),
    Mutator("UTF-16", "MAY", utf16),
    Mutator("byte order mark", "MAY", byte_order_mark),
    Mutator("other line ends", "MAY", line_ends),
]


# --- Structure: JSON, JSON lines, YAML (which JSON is), CSV ---


def _text(data: bytes, change: Callable[[str], bytes]) -> bytes | None:
    try:
        return change(data.decode())
    except UnicodeDecodeError:
        return None


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path]
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, part in items:
            found += _places(part, (*path, key))
    return found


def _parsed(data: bytes) -> Any:
    import yaml

    if b"&" in data:  # aliases, which could grow without end
        return None
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        pass
    try:
        return json.loads(json.dumps(yaml.safe_load(data), default=str))
    except Exception:  # whatever an earlier mutation made of it
        return None


def at_a_place(replace: Callable[[random.Random, Any], Any]) -> Callable[..., bytes | None]:
    """Replaces the value at a random place of a JSON or YAML file."""

    def change(rng: random.Random, data: bytes) -> bytes | None:
        value = _parsed(data)
        places = [path for path in _places(value) if path] if value is not None else []
        if not places:
            return None
        *parents, key = rng.choice(places)
        holder = value
        for step in parents:
            holder = holder[step]
        new = replace(rng, holder[key])
        if new is None:
            return None
        holder[key] = new
        return dumps(value).encode()

    return change


def _other_type(rng: random.Random, value: Any) -> Any:
    kinds = {
        bool: ["yes", [], {}],
        int: ["many", [1], {"a": 1}, True],
        float: ["0.5x", [0.5], {}, True],
        str: [[1], {"a": 1}, 17, False],
        list: ["text", {"a": 1}, 3],
        dict: ["text", [1, 2], 3],
    }
    return rng.choice(kinds.get(type(value), [None]))


def _number(rng: random.Random, value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return rng.choice([-1, 0, 10**18, -(10**30), 1e300, Raw("1e999"), HUGE, Raw("-0.0")])


def _not_finite(rng: random.Random, value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return Raw(rng.choice(["NaN", "Infinity", "-Infinity"]))


def _odd_text(rng: random.Random, value: Any) -> Any:
    odd = ["", " ", "\0", "../../etc", "a" * 70_000, "<script>", "{{ 1/0 }}", "\u202e", "%s", "\n"]
    return rng.choice(odd) if isinstance(value, str) else None


def _surrogate(rng: random.Random, value: Any) -> Any:
    return Raw('"a\\ud83d"') if isinstance(value, str) else None


def _null(rng: random.Random, value: Any) -> Any:
    return None if value is None else Raw("null")


def repeated_key(rng: random.Random, data: bytes) -> bytes | None:
    value = _parsed(data)
    if not isinstance(value, dict) or not value:
        return None
    items = Pairs(value.items())
    key, part = rng.choice(items)
    items.insert(rng.randrange(len(items) + 1), (key, rng.choice([part, 1, "x", None])))
    return dumps(items).encode()


def extra_key(rng: random.Random, data: bytes) -> bytes | None:
    value = _parsed(data)
    return dumps(value | {"unheard_of": 1}).encode() if isinstance(value, dict) else None


def lost_key(rng: random.Random, data: bytes) -> bytes | None:
    value = _parsed(data)
    if not isinstance(value, dict) or not value:
        return None
    value.pop(rng.choice(sorted(value)))
    return dumps(value).encode()


JSON = [
    *TEXT,
    Mutator("a key twice", "ALWAYS", repeated_key),
    Mutator("an unknown key", "STRICT", extra_key),
    Mutator("a key lost", "MAY", lost_key),
    Mutator("another type", "STRICT", at_a_place(_other_type)),
    Mutator("an odd number", "MAY", at_a_place(_number)),
    Mutator("not finite", "STRICT", at_a_place(_not_finite)),
    Mutator("odd text", "MAY", at_a_place(_odd_text)),
    Mutator("a lone surrogate", "STRICT", at_a_place(_surrogate)),
    Mutator("null", "MAY", at_a_place(_null)),
    Mutator("nested 5,000 deep", "STRICT", at_a_place(lambda rng, value: NESTED)),
    Mutator("objects nested 5,000 deep", "STRICT", at_a_place(lambda rng, value: NESTED_OBJECTS)),
]


def _yaml_text(text: str) -> Callable[[random.Random, bytes], bytes]:
    return lambda rng, data: data + b"\n" + text.encode()


YAML = [
    *JSON,
    Mutator("a tab", "MAY", lambda rng, data: data.replace(b"  ", b"\t", 1)),
    Mutator("an alias bomb", "MAY", _yaml_text(
        "a: &a [x]\n" + "".join(f"b{n}: &b{n} [{', '.join(['*a' if not n else f'*b{n - 1}'] * 10)}]\n"
                                for n in range(9)))),
    Mutator("a self-referencing alias", "STRICT", _yaml_text("itself: &itself [*itself]\n")),
    Mutator("a Python object", "STRICT", _yaml_text("x: !!python/object/apply:os.abort []\n")),
    Mutator("a second document", "STRICT", _yaml_text("---\na: 1\n")),
    Mutator("a merge key", "STRICT", _yaml_text("<<: {unheard_of: 1}\n")),
]  # fmt: skip


def on_a_line(mutators: list[Mutator], names: set[str]) -> list[Mutator]:
    """Applies JSON's mutators to one line of a JSON-lines file."""

    def lifted(mutator: Mutator) -> Mutator:
        def change(rng: random.Random, data: bytes) -> bytes | None:
            lines = data.splitlines()
            if not lines:
                return None
            place = rng.randrange(len(lines))
            new = mutator.change(rng, lines[place])
            return None if new is None else b"\n".join([*lines[:place], new, *lines[place + 1 :]])

        return Mutator(f"{mutator.name} in a line", mutator.must, change)

    return [lifted(mutator) for mutator in mutators if mutator.name not in names]


def swap_lines(rng: random.Random, data: bytes) -> bytes | None:
    lines = data.splitlines(keepends=True)
    rng.shuffle(lines)
    return b"".join(lines)


def repeat_line(rng: random.Random, data: bytes) -> bytes | None:
    lines = data.splitlines(keepends=True)
    return data + rng.choice(lines) if lines else None


def drop_line(rng: random.Random, data: bytes) -> bytes | None:
    lines = data.splitlines(keepends=True)
    if lines:
        lines.pop(rng.randrange(len(lines)))
    return b"".join(lines)


LINES = [
    Mutator("lines in another order", "MAY", swap_lines),
    Mutator("a line twice", "MAY", repeat_line),
    Mutator("a line lost", "MAY", drop_line),
]
_WHOLE = {mutator.name for mutator in TEXT}
JSONL = [*TEXT, *LINES, *on_a_line(JSON, _WHOLE - {"truncated", "not UTF-8"})]


def on_table(change: Callable[[random.Random, list[list[str]]], None]) -> Callable[..., Any]:
    """Changes the rows of a CSV or TSV file; the first one is the header."""

    def changed(rng: random.Random, data: bytes) -> bytes | None:
        delimiter = "\t" if b"\t" in data.split(b"\n")[0] else ","
        try:
            rows = list(csv.reader(io.StringIO(data.decode()), delimiter=delimiter))
        except (UnicodeDecodeError, csv.Error):
            return None
        if len(rows) < 2 or not rows[0]:
            return None
        change(rng, rows)
        stream = io.StringIO()
        csv.writer(stream, delimiter=delimiter, lineterminator="\n").writerows(rows)
        return stream.getvalue().encode()

    return changed


def _same_column(rng: random.Random, rows: list[list[str]]) -> None:
    rows[0][-1] = rows[0][0]


def _renamed_column(rng: random.Random, rows: list[list[str]]) -> None:
    rows[0][rng.randrange(len(rows[0]))] = rng.choice(["", "Prompt ", "id", "é", "a" * 300])


def _extra_field(rng: random.Random, rows: list[list[str]]) -> None:
    rng.choice(rows[1:]).append("more")


def _lost_field(rng: random.Random, rows: list[list[str]]) -> None:
    rng.choice(rows[1:]).pop()


def _odd_field(rng: random.Random, rows: list[list[str]]) -> None:
    row = rng.choice(rows[1:])
    odd = ["", " ", "\0", '"', "\n\n", "x" * 200_000, "=1+1", "nan"]
    row[rng.randrange(len(row))] = rng.choice(odd)


TABLE = [
    *TEXT,
    *LINES,
    Mutator("a column's name twice", "ALWAYS", on_table(_same_column)),
    Mutator("a column renamed", "MAY", on_table(_renamed_column)),
    Mutator("a field too many", "ALWAYS", on_table(_extra_field)),
    Mutator("a field too few", "ALWAYS", on_table(_lost_field)),
    Mutator("an odd field", "MAY", on_table(_odd_field)),
    Mutator("an open quote", "MAY", lambda rng, data: data + b'"'),
]


# --- Binary files with a structure ---


def inside_gzip(mutators: list[Mutator]) -> list[Mutator]:
    """Applies mutators to the content of a gzip file."""

    def lifted(mutator: Mutator) -> Mutator:
        def change(rng: random.Random, data: bytes) -> bytes | None:
            try:
                new = mutator.change(rng, gzip.decompress(data))
            except (OSError, EOFError, ValueError, zlib.error):
                return None
            return None if new is None else gzip.compress(new, mtime=0)

        return Mutator(f"{mutator.name}, inside gzip", mutator.must, change)

    return [*BYTES, *map(lifted, mutators)]


def on_parquet(change: Callable[[random.Random, Any], Any]) -> Callable[..., Any]:
    """Changes the table of a Parquet file."""

    def changed(rng: random.Random, data: bytes) -> bytes | None:
        import pyarrow
        import pyarrow.parquet

        try:
            table = pyarrow.parquet.read_table(io.BytesIO(data))
        except (pyarrow.ArrowException, OSError):
            return None
        stream = io.BytesIO()
        pyarrow.parquet.write_table(change(rng, table), stream)
        return stream.getvalue()

    return changed


def _column_of_bytes(rng: random.Random, table: Any) -> Any:
    import pyarrow

    names = [name for name in table.column_names if table[name].type == pyarrow.string()]
    if not names:
        return table
    name = rng.choice(names)
    column = pyarrow.array([b"\xff\xfe"] * len(table), pyarrow.binary())
    damaged = pyarrow.Array.from_buffers(pyarrow.string(), len(table), column.buffers())
    return table.set_column(table.column_names.index(name), name, damaged)


def _column_renamed(rng: random.Random, table: Any) -> Any:
    names = list(table.column_names)
    names[rng.randrange(len(names))] = rng.choice(["", "é", "unheard_of", names[-1]])
    return table.rename_columns(names)


def _column_lost(rng: random.Random, table: Any) -> Any:
    return table.drop_columns([rng.choice(table.column_names)])


def _column_of_another_type(rng: random.Random, table: Any) -> Any:
    import pyarrow

    name = rng.choice(table.column_names)
    values = rng.choice([[1.5], [None], [{"a": 1}], [[[1]]], [True], [10**18]]) * len(table)
    return table.set_column(table.column_names.index(name), name, pyarrow.array(values))


def _rows_taken(rng: random.Random, table: Any) -> Any:
    import pyarrow

    rows = [rng.randrange(len(table)) for _ in range(rng.choice([0, 1, len(table), 50]))]
    return table.take(pyarrow.array(rows, pyarrow.int64()))


PARQUET = [
    *BYTES,
    Mutator("text that is not UTF-8", "ALWAYS", on_parquet(_column_of_bytes), whole=True),
    Mutator("a column renamed", "MAY", on_parquet(_column_renamed), whole=True),
    Mutator("a column lost", "MAY", on_parquet(_column_lost), whole=True),
    Mutator("a column of another type", "MAY", on_parquet(_column_of_another_type), whole=True),
    Mutator("other rows", "MAY", on_parquet(_rows_taken), whole=True),
]


def header_of_safetensors(mutators: list[Mutator]) -> list[Mutator]:
    """Applies JSON's mutators to the header of a safetensors file; its length is kept right."""

    def lifted(mutator: Mutator) -> Mutator:
        def change(rng: random.Random, data: bytes) -> bytes | None:
            size = int.from_bytes(data[:8], "little")
            new = mutator.change(rng, data[8 : 8 + size])
            return None if new is None else len(new).to_bytes(8, "little") + new + data[8 + size :]

        return Mutator(f"{mutator.name} in the header", "MAY", change)

    return [*map(lifted, mutators)]


def _header_length(rng: random.Random, data: bytes) -> bytes:
    return rng.choice([0, 2**62, 2**64 - 1, len(data)]).to_bytes(8, "little") + data[8:]


SAFETENSORS = [
    *BYTES,
    Mutator("another length of the header", "ALWAYS", _header_length),
    *header_of_safetensors([mutator for mutator in JSON if mutator not in BYTES]),
]

_PLUGINS = {
    "a syntax error": "def",
    "an exception": "raise RuntimeError('planted')",
    "an exit": "raise SystemExit(7)",
    "an interrupt of its own": "raise KeyboardInterrupt",
    "endless recursion": "def f(): f()\nf()",
    "a missing module": "import no_such_module_anywhere",
    "an exception without words": "class Odd(Exception):\n    def __str__(self): return ''\nraise Odd",
    "an exception of many lines": "raise ValueError('a\\nb\\nc' * 99)",
    "a reward that is not a class": "REWARDS = {'planted': 3}",
    "rewards that are a list": "REWARDS = ['planted']",
    "no rewards": "REWARDS = {}",
    "an exception in its making": "class R:\n    def __init__(self, **k): raise RuntimeError('p')\n"
                                  "REWARDS = {'planted': R}",
    "no number": "from lmrl_bench.rewards.base import *\nclass R(RewardFunction):\n    name = 'planted'\n"
                 "    signature = 'p'\n    def __call__(self, batch): return 'text'\nREWARDS = {'planted': R}",
    "an exception as it scores": "from lmrl_bench.rewards.base import *\nclass R(RewardFunction):\n"
                                 "    name = 'planted'\n    signature = 'p'\n"
                                 "    def __call__(self, batch): raise IndexError\nREWARDS = {'planted': R}",
}  # fmt: skip

PYTHON = [
    *(Mutator(name, "ALWAYS", lambda rng, data, text=text: text.encode())
      for name, text in _PLUGINS.items()),
    Mutator("random bytes", "ALWAYS", random_bytes),
    Mutator("not UTF-8", "ALWAYS", not_utf8),
    Mutator("truncated", "MAY", truncate),
    Mutator("zeros inserted", "ALWAYS", zeros),
]  # fmt: skip
