"""A check holds for the records that it names, and for no others."""

import datetime
import json
import re

import pytest
from fixtures.leaderboards import (
    fake_content,
    fake_expected,
    fake_spec,
    write_cell,
    write_leaderboard,
)

from lmrl_bench.core.errors import RecordError
from lmrl_bench.leaderboards.build import render
from lmrl_bench.leaderboards.collect import collect
from lmrl_bench.leaderboards.spec import cells
from lmrl_bench.leaderboards.verification import (
    FILE,
    MAX_BYTES,
    Check,
    Retrained,
    add_check,
    digests,
    primary_value,
    read_checks,
    verification,
)
from lmrl_bench.records.store import find_records

SPEC = fake_spec(tasks=[{"task": "docs-en-de"}])
SEEDS = [cell for cell in cells(SPEC) if cell.entry == "ppo"]


@pytest.fixture
def entry(tmp_path):
    """The folder of an entry of three completed seeds."""
    for cell in SEEDS:
        write_cell(tmp_path, "fake", cell, fake_content(cell))
    return SEEDS[0].folder(tmp_path, "fake").parent


def check(entry, level=1, retrained=None, by="someone", day=1, records=None):
    return Check(
        level=level,
        by=by,
        date=datetime.date(2026, 3, day),
        records=records or digests(find_records(entry)),
        package_version="0.1.0",
        retrained=retrained,
    )


def again(entry, seed, shift=None, by="someone"):
    """A check of level 3: the same bits, or a value that is shifted."""
    record = find_records(entry)[seed]
    how, value, digest = "bitwise", primary_value(record), record.digest()
    if shift is not None:
        how, value, digest = "interval", value + shift, "d" * 64
    retrained = Retrained(seed=seed, how=how, value=value, digest=digest)
    return check(entry, 3, retrained, by)


def level(entry):
    return verification(entry, find_records(entry)).level


def rewrite(entry, edit):
    content = fake_content(SEEDS[1])
    edit(content)
    write_cell(entry.parents[2], "fake", SEEDS[1], content)


def test_without_a_file(entry):
    assert verification(entry, find_records(entry)).model_dump() == {
        "level": 0, "word": "declared", "by": None, "date": None, "bitwise": [], "interval": [],
    }  # fmt: skip


def test_the_highest_check_that_holds(entry):
    add_check(entry, check(entry, day=2))
    found = verification(entry, find_records(entry))
    assert (found.level, found.word, found.by, found.date) == (
        1, "rescored", "someone", "2026-03-02",
    )  # fmt: skip
    add_check(entry, again(entry, 0))
    assert level(entry) == 3
    assert [found.level for found in read_checks(entry)] == [1, 3]


@pytest.mark.parametrize(
    "edit",
    [
        lambda c: c["results"]["test"].update(reward=0.9),
        lambda c: c["budget"].update(tokens=1),
        lambda c: c["events"].update(early_eos=1) if "events" in c else c.update(events={"e": 1}),
    ],
)
def test_it_lapses_when_a_record_changes(entry, edit):
    add_check(entry, check(entry))
    rewrite(entry, edit)
    assert level(entry) == 0
    add_check(entry, check(entry))  # lapsed ones go when the next is written
    assert len(read_checks(entry)) == 1


def test_it_holds_when_only_times_change(entry):
    add_check(entry, check(entry))
    rewrite(entry, lambda c: c["time"].update(wall_s=1.0))
    assert level(entry) == 1


def test_it_lapses_when_a_seed_comes_or_goes(entry):
    add_check(entry, check(entry))
    more = next(
        c for c in cells(fake_spec(seeds=[3])) if (c.task, c.entry) == ("docs-en-de", "ppo")
    )
    write_cell(entry.parents[2], "fake", more, fake_content(more))
    assert level(entry) == 0
    assert verification(entry, find_records(entry)[:3]).level == 1
    assert verification(entry, find_records(entry)[:2]).level == 0


def test_the_same_check_again_replaces_the_older_one(entry):
    for day, by in ((1, "a"), (2, "a"), (3, "b")):
        add_check(entry, check(entry, day=day, by=by))
    assert [(c.by, c.date.day) for c in read_checks(entry)] == [("a", 2), ("b", 3)]


def test_replicated_needs_every_seed(entry):
    for seed in (0, 1):
        add_check(entry, again(entry, seed))
    assert level(entry) == 3
    add_check(entry, again(entry, 2))
    assert level(entry) == 4


def leaderboard_of(root):
    return collect(SPEC, root, fake_expected)


@pytest.mark.parametrize(
    ("checks", "text", "title"),
    [
        ([(0, None)], "3 retrained, same bits", "seed 0 gave the same bits"),
        (
            [(1, 0.001)],
            "3 retrained, interval only",
            "seed 1 agrees inside the prediction interval only",
        ),
        (
            [(1, 0.001), (0, None), (2, None), (2, 0.001)],
            "4 replicated, 2 same bits, 1 interval only",
            "seed 0 gave the same bits; seed 2 gave the same bits; seed 1 agrees inside",
        ),
    ],
)
def test_the_pages_say_how_a_seed_that_was_trained_again_agreed(entry, checks, text, title):
    for number, (seed, shift) in enumerate(checks):
        add_check(entry, again(entry, seed, shift, by=f"reviewer {number}"))
    files = {
        name: content.decode() for name, content in render(leaderboard_of(entry.parents[2])).items()
    }
    assert f"| {text} |" in files["README.md"]
    cell = re.search(rf'<td class="left" title="([^"]*)">{text}</td>', files["index.html"])
    assert title in cell[1]


@pytest.mark.parametrize(("shift", "expected"), [(0.001, 4), (0.05, 3)])
def test_replicated_with_other_bits_asks_welch(entry, shift, expected):
    for seed in range(3):
        add_check(entry, again(entry, seed, shift))
    assert level(entry) == expected


def test_a_row_with_a_missing_seed_is_declared(tmp_path):
    write_leaderboard(tmp_path, SPEC, {("docs-en-de", "ppo", 1): None})
    entry = SEEDS[0].folder(tmp_path, "fake").parent
    add_check(entry, check(entry))
    found = {r.entry: r for r in collect(SPEC, tmp_path, fake_expected).tasks[0].entries}
    assert found["ppo"].verification.level == 0


CLAIMS = {
    "trained again, but not which seed": (
        lambda c: c.pop("retrained"), "says which seed was trained again"
    ),
    "rescored, with a seed trained again": (
        lambda c: c.update(level=1), "says which seed was trained again"
    ),
    "a seed that the entry lacks": (
        lambda c: c["retrained"].update(seed=7), "seed 7 was trained again, but is none of"
    ),
    "the same bits under another digest": (
        lambda c: c["retrained"].update(digest="d" * 64), "seed 0: the digest is not the record's"
    ),
    "an interval without a value": (
        lambda c: c["retrained"].update(how="interval", value=None), "says nothing without the value"
    ),
    "a value that is not finite": (
        lambda c: c["retrained"].update(how="interval", value=float("nan")), "not a file of checks"
    ),
    "a value outside the interval": (
        lambda c: c["retrained"].update(how="interval", value=99.0),
        "claims that seed 0, trained again, lies inside .* but 99 does not",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CLAIMS)
def test_a_level_without_evidence_is_refused(entry, name):
    change, reason = CLAIMS[name]
    claim = json.loads(again(entry, 0).model_dump_json())
    change(claim)
    (entry / FILE).write_text(json.dumps({"checks": [claim]}))
    with pytest.raises(RecordError, match=reason):
        level(entry)


def test_an_interval_of_one_other_seed_is_none(entry):
    add_check(entry, again(entry, 0, 0.0))
    records = find_records(entry)
    interval = Check(**(check(entry).model_dump() | {"records": digests(records[:2]), "level": 3}
                        | {"retrained": again(entry, 0, 0.0).retrained}))  # fmt: skip
    add_check(entry, interval)
    with pytest.raises(RecordError, match="claims that seed 0"):
        verification(entry, records[:2])


def test_two_records_of_one_seed_are_not_one_row(entry):
    records = find_records(entry)
    with pytest.raises(RecordError, match="a second record of seed 1 in its entry"):
        digests([*records, records[1]])


def test_a_completed_record_without_its_primary_metric(entry):
    record = find_records(entry)[0]
    with pytest.raises(RecordError, match="has no sentiment on the test split"):
        primary_value(record.model_copy(update={"results": {}}))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"checks": [{"level": 4}]}',
        '{"checks": [], "x": 1}',
        '{"checks": [], "checks": []}',
        '{"checks": [' + "[" * 5000 + "]" * 5000 + "]}",
    ],
)
def test_what_is_not_a_file_of_checks_is_refused(entry, text):
    (entry / FILE).write_text(text)
    with pytest.raises(RecordError, match=r"verification\.json: not a file of checks"):
        read_checks(entry)


def test_links_and_huge_files_are_refused(entry, tmp_path):
    (tmp_path / "x").write_text('{"checks": []}')
    (entry / FILE).symlink_to(tmp_path / "x")
    with pytest.raises(RecordError, match="is a link"):
        read_checks(entry)
    (entry / FILE).unlink()
    (entry / FILE).write_bytes(b" " * (MAX_BYTES + 1))
    with pytest.raises(RecordError, match="larger than"):
        read_checks(entry)
