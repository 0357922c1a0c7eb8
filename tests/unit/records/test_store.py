"""Records are written atomically, read strictly, and come back as they were."""

import json
import math
import re
from pathlib import Path

import pytest
from fixtures.leaderboards import fake_content, fake_spec, write_cell
from hypothesis import given, settings
from hypothesis import strategies as st

from lmrl_bench.core.digests import file_sha256
from lmrl_bench.core.errors import RecordError
from lmrl_bench.leaderboards.spec import cells
from lmrl_bench.records.record import FileInfo, RunRecord
from lmrl_bench.records.store import (
    check_files,
    check_writable,
    find_folders,
    find_records,
    read_record,
    writable,
    write_atomic,
    write_record,
)

CELL = cells(fake_spec())[6]
NUMBER = st.floats(allow_nan=False, allow_infinity=False)


def record(**changes):
    return RunRecord.model_validate({**fake_content(CELL), **changes})


def test_round_trip(tmp_path):
    path = write_record(tmp_path, record())
    assert path == tmp_path / "record.json"
    assert read_record(tmp_path) == record()
    assert read_record(tmp_path).digest() == record().digest()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["record.json"]
    assert json.loads(path.read_text())["schema"] == 1


@settings(deadline=None, max_examples=40)
@given(value=NUMBER, share=st.floats(0, 1), text=st.text(st.characters(exclude_categories=["Cs"])),
       status=st.sampled_from(["completed", "failed", "diverged", "interrupted"]))  # fmt: skip
def test_any_record_comes_back(tmp_path_factory, value, share, text, status):
    folder = tmp_path_factory.mktemp("r")
    content = fake_content(CELL)
    content["results"]["test"] |= {"reward": value, "truncated_share": share}
    content |= {"status": status, "error": {"type": text, "message": text}}
    before = RunRecord.model_validate(content)
    write_record(folder, before)
    assert read_record(folder) == before


def test_times_and_tracebacks_are_not_part_of_the_digest():
    error = {"type": "E", "message": "m", "traceback": "t"}
    changed = record(
        error=error | {"traceback": "u"}, time={**fake_content(CELL)["time"], "wall_s": 9}
    )
    assert changed.digest() == record(error=error).digest()
    assert record(seed=99).digest() != record().digest()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_number_that_is_not_finite_is_refused(tmp_path, value):
    content = fake_content(CELL)
    content["results"]["test"]["reward"] = value
    with pytest.raises(RecordError, match=r"record\.json: a number of the record is not finite"):
        write_record(tmp_path, RunRecord.model_validate(content))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["NaN", "-Infinity", "1e999"])
def test_a_number_that_is_not_finite_is_not_read(tmp_path, text):
    write_record(tmp_path, RunRecord.model_validate(fake_content(CELL)))
    path = tmp_path / "record.json"
    path.write_text(
        re.sub(r'"kl_to_reference": [\d.e-]+', f'"kl_to_reference": {text}', path.read_text())
    )
    with pytest.raises(RecordError, match=r"record\.json: corrupt"):
        read_record(tmp_path)


def test_json_that_is_too_deep_is_not_read(tmp_path):
    (tmp_path / "record.json").write_text("[" * 100_000)
    with pytest.raises(RecordError, match=r"record\.json: corrupt"):
        read_record(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no record; the run has not finished"),
        ("{", "corrupt .*restore it or run again"),
        ("[]", r"corrupt \(not a JSON object\); restore it"),
        ('{"schema": 2}', "record schema 2, but this version"),
        ('{"schema": 1}', "not a valid record .*id: Field required"),
    ],
)
def test_unreadable_records_name_file_and_remedy(tmp_path, content, message):
    if content is not None:
        (tmp_path / "record.json").write_text(content)
    with pytest.raises(RecordError, match=rf"record\.json: {message}"):
        read_record(tmp_path)


def test_a_folder_that_is_not_a_run_is_said_so(tmp_path):
    for seed in ("0", "1"):
        (tmp_path / "ppo" / seed).mkdir(parents=True)
        (tmp_path / "ppo" / seed / "record.json").write_text("{}")
    with pytest.raises(
        RecordError, match=r"ppo: contains runs but is not one; name one of them: 0, 1$"
    ):
        read_record(tmp_path / "ppo")
    with pytest.raises(RecordError, match=r"5: no such folder \(runs there: 0, 1\)$"):
        read_record(tmp_path / "ppo" / "5")
    with pytest.raises(RecordError, match=r"grpo/0: no such folder$"):
        read_record(tmp_path / "grpo" / "0")


def test_an_unknown_field_is_refused(tmp_path):
    (tmp_path / "record.json").write_text(json.dumps({**fake_content(CELL), "extra": 1}))
    with pytest.raises(RecordError, match="extra: Extra inputs are not permitted"):
        read_record(tmp_path)


def test_find_is_sorted(tmp_path):
    for name in ("b/1", "a/2", "a/1"):
        (tmp_path / name).mkdir(parents=True)
        write_record(tmp_path / name, record(entry=name.replace("/", "-")))
    assert [r.entry for r in find_records(tmp_path)] == ["a-1", "a-2", "b-1"]
    assert [f.relative_to(tmp_path).as_posix() for f in find_folders(tmp_path)] == [
        "a/1",
        "a/2",
        "b/1",
    ]
    with pytest.raises(RecordError, match="no such results folder"):
        find_records(tmp_path / "none")


def test_changed_and_missing_files_are_seen(tmp_path):
    folder = write_cell(tmp_path, "fake", CELL, fake_content(CELL))
    check_files(folder, read_record(folder))
    curves = folder / "curves.jsonl"
    curves.write_text(curves.read_text().replace("5", "6"))
    with pytest.raises(RecordError, match=r"curves\.jsonl: changed since the record was written"):
        check_files(folder, read_record(folder))
    curves.unlink()
    with pytest.raises(RecordError, match=r"curves\.jsonl: missing"):
        check_files(folder, read_record(folder))


def test_an_unwritable_folder_is_refused_before_any_work(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordError, match=r"results cannot be written here .*choose another"):
        check_writable(tmp_path / "file" / "run")
    check_writable(tmp_path / "a" / "b")
    assert not (tmp_path / "a").exists()


def test_of_folders_that_were_made_those_that_stay_empty_go(tmp_path):
    (tmp_path / "old").mkdir()
    with writable(tmp_path / "old"), writable(tmp_path / "new" / "used" / "deep"):
        (tmp_path / "new" / "used" / "file").write_text("")
    with pytest.raises(ZeroDivisionError), writable(tmp_path / "new" / "refused"):
        raise ZeroDivisionError
    found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")}
    assert found == {"old", "new", "new/used", "new/used/file"}


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x"
    write_atomic(path, b"old")

    def fail(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(RecordError, match="x: cannot be written: No space left on device"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


OUTSIDE = ["../x", "/etc/passwd", "a/b", "..", ".", "", "a\\b", "C:\\x", "x\0.jsonl"]


def places():
    """Every field of a record that names a file or a folder, and what may not stand there."""
    yield from ((("curves", "path"), name) for name in OUTSIDE)
    yield from ((("samples", "path"), name) for name in OUTSIDE)
    yield from ((("entry",), name) for name in OUTSIDE)
    yield from ((("task", "name"), name) for name in OUTSIDE)
    models = ["/home/me/m", "../m", "~/m", "C:\\Users\\me\\m", "a/../../m", "m\0"]
    yield from ((("policy", "model"), name) for name in models)
    yield from ((("config", "policy", "model"), name) for name in models)


@pytest.mark.parametrize(("field", "value"), list(places()))
def test_a_record_that_names_a_place_outside_its_folder_is_refused(tmp_path, field, value):
    folder = write_cell(tmp_path, "fake", CELL, fake_content(CELL))
    content = json.loads((folder / "record.json").read_text())
    inner = content
    for key in field[:-1]:
        inner = inner[key]
    inner[field[-1]] = value
    (folder / "record.json").write_text(json.dumps(content))
    with pytest.raises(RecordError, match=r"record\.json: not a valid record .*is a path"):
        read_record(folder)


@pytest.mark.parametrize("name", ["policy.yaml", "record.json", "samples.parquet"])
def test_the_digest_of_another_file_proves_nothing(tmp_path, name):
    """Else curves could be edited while the record's digest is of a file that was left alone."""
    folder = write_cell(tmp_path, "fake", CELL, fake_content(CELL))
    (folder / "policy.yaml").write_text("left alone")
    found = read_record(folder)
    other = {"path": name, "sha256": file_sha256(folder / name), "rows": 1}
    moved = found.model_copy(update={"curves": FileInfo.model_validate(other)})
    with pytest.raises(RecordError, match=rf"names '{name}' where 'curves\.jsonl' belongs"):
        check_files(folder, moved)


@pytest.mark.parametrize("name", ["record.json", "curves.jsonl", "samples.parquet"])
def test_links_are_refused(tmp_path, name):
    folder = write_cell(tmp_path / "runs", "fake", CELL, fake_content(CELL))
    outside = tmp_path / name
    (folder / name).rename(outside)
    (folder / name).symlink_to(outside)
    with pytest.raises(RecordError, match=rf"{name}: is a link"):
        check_files(folder, read_record(folder))
