"""`results validate | retrain` as someone uses them: further entries, the report, levels of verification."""

from __future__ import annotations

import json
import shutil

import pytest
from fixtures.runs import call, make_world
from fixtures.submissions import LEADERBOARD, PPO, Handed, run_leaderboard, small_leaderboard

from lmrl_bench.leaderboards.build import render
from lmrl_bench.leaderboards.collect import collect
from lmrl_bench.leaderboards.spec import read_leaderboard
from lmrl_bench.planning.cells import of_leaderboard
from lmrl_bench.records.store import read_record


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    """The leaderboard with one further entry, `mine`, and the results of before without it."""
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("world")
        patch.chdir(root)
        world = make_world(root, patch.setenv)
        leaderboard = small_leaderboard(root, "mine")
        run_leaderboard(leaderboard, root / "results")
        shutil.copytree(root / "results", root / "before")
        shutil.rmtree(root / "before" / LEADERBOARD / "toy" / "mine")
        yield world, leaderboard


@pytest.fixture
def handed(honest, tmp_path):
    world, leaderboard = honest
    shutil.copytree(world.root / "results", tmp_path / "results")
    return Handed(world, leaderboard, tmp_path / "results" / LEADERBOARD, world.root / "before")


def validate(capsys, handed, folder, *options):
    return call(
        capsys, "results", "validate", folder, "--leaderboard", handed.leaderboard, *options
    )


def levels(handed):
    spec = read_leaderboard(handed.leaderboard)
    table = collect(spec, handed.folder.parent, of_leaderboard(spec)).tasks[0]
    return {row.entry: (row.verification.level, row.verification.word) for row in table.entries}


def test_the_report_of_a_new_row(handed, capsys, tmp_path):
    report = tmp_path / "report.md"
    options = ("--against", handed.before, "--report", report)
    done = validate(capsys, handed, handed.folder, *options)
    assert done.code == 0, done.err
    text = report.read_text()
    assert "**Valid** (9 records, new entries: mine)" in text
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert [line.split(" | ")[:2] for line in lines[2:]] == [
        ["| mine", "new"], ["| ppo", "best so far"], ["| start", "reference"],
    ]  # fmt: skip
    assert lines[2].endswith("| 3/3 | 0 declared |")
    assert "`mine` minus `ppo`: " in text
    assert "*Unusually high*: Welch's" in text


def test_further_rows_in_a_folder_of_their_own(handed, capsys, tmp_path):
    """Only the new entry is submitted; the leaderboard is the old one with it."""
    folder = tmp_path / "contribution"
    shutil.copytree(handed.folder / "toy" / "mine", folder / "toy" / "mine")
    report = tmp_path / "report.md"
    options = ("--against", handed.before, "--report", report)
    done = validate(capsys, handed, folder, *options)
    assert done.code == 0, done.err
    assert "**Valid** (3 records, new entries: mine)" in report.read_text()
    assert "| ppo | best so far |" in report.read_text()
    shutil.rmtree(folder / "toy" / "mine" / "2")
    done = validate(capsys, handed, folder, *options)
    assert done.code == 3
    assert "toy/mine/2: missing" in done.err
    assert "toy/ppo" not in done.err


def test_the_report_of_a_refused_submission_is_plain_text(handed, capsys, tmp_path):
    report = tmp_path / "report.md"
    (handed.folder / "toy" / "ppo" / "0" / "`<b>x.txt").write_text("")
    done = validate(capsys, handed, handed.folder, "--report", report)
    assert done.code == 3
    assert "**Refused**, number of problems: 1 " in report.read_text()
    assert "'<b>x.txt: does not belong here" in report.read_text().split("```text")[1]


def test_records_that_the_leaderboard_outgrew_may_be_replaced(handed, capsys, tmp_path):
    """The old record is of another state of the leaderboard: replacing it is shown, not refused."""
    before = tmp_path / "old"
    shutil.copytree(handed.folder.parent, before)
    path = before / LEADERBOARD / PPO / "0" / "record.json"
    old = json.loads(path.read_text())
    old["task"]["version"] = 7
    path.write_text(json.dumps(old))
    done = validate(capsys, handed, handed.folder, "--against", before)
    assert done.code == 0, done.err
    assert (
        "ppo/0: record.json changed; the old record is not of the leaderboard as it is now"
        in done.err
    )


@pytest.mark.parametrize("name", ["%s", "docs-en-de", "nowhere"])
def test_a_record_of_a_task_that_is_not_on_the_leaderboard_is_named(handed, capsys, name):
    path = handed.folder / "toy" / "ppo" / "1" / "record.json"
    record = json.loads(path.read_text())
    record["task"]["name"] = name
    path.write_text(json.dumps(record))
    done = validate(capsys, handed, handed.folder)
    assert done.code == 3
    assert "toy/ppo/1" in done.err + done.out
    assert f"'{name}'" in done.err + done.out


def test_wrong_usage(handed, capsys, tmp_path):
    done = validate(capsys, handed, tmp_path / "nothing")
    assert (done.code, "there is no such folder of results" in done.err) == (2, True)
    done = validate(capsys, handed, handed.folder, "--against", tmp_path / "nothing")
    assert (done.code, "no such folder of earlier results" in done.err) == (2, True)
    assert call(capsys, "results", "validate", handed.folder, "--leaderboard", "nano-x").code == 2
    done = call(capsys, "results", "rescore", handed.folder, "--write-verification")
    assert (done.code, "needs --by NAME" in done.err) == (2, True)
    for name in ("x" * 201, "two\nlines"):
        options = ("--write-verification", "--by", name)
        done = call(capsys, "results", "rescore", handed.folder, *options)
        assert (done.code, "--by: " in done.err) == (2, True), done.err


def test_what_a_reviewer_should_know(handed, capsys):
    handed.edit(lambda content: content["provenance"].update(dirty=True), f"{PPO}/0")
    handed.edit(lambda content: content["provenance"].update(commit=None, dirty=None))
    done = validate(capsys, handed, handed.folder)
    assert done.code == 0, done.err
    assert "ppo/0: the code differed from its commit (dirty)" in done.err
    assert "ppo/1: the commit of the code is unknown" in done.err


def test_a_removed_check_is_shown(handed, capsys, tmp_path):
    """A submission of the whole leaderboard must keep its checks; further entries come without those of the others."""
    options = ("--write-verification", "--by", "A. Reviewer")
    assert call(capsys, "results", "rescore", handed.folder, *options).code == 0
    before = tmp_path / "checked"
    shutil.copytree(handed.folder.parent, before)
    done = validate(capsys, handed, handed.folder, "--against", before)
    assert (done.code, "verification.json" in done.err) == (0, False)
    (handed.folder / PPO / "verification.json").unlink()
    done = validate(capsys, handed, handed.folder, "--against", before)
    assert done.code == 0, done.err
    assert done.err.count("verification.json") == 1
    assert (
        "small/toy/ppo/verification.json: removed; the checks of the entry go with it" in done.err
    )
    rows = tmp_path / "rows"
    shutil.copytree(handed.folder / "toy" / "mine", rows / "toy" / "mine")
    done = validate(capsys, handed, rows, "--against", before)
    assert "verification.json" not in done.err


def test_rescored_holds_until_a_record_changes(handed, capsys):
    assert set(levels(handed).values()) == {(0, "declared")}
    options = ("--write-verification", "--by", "A. Reviewer")
    done = call(capsys, "results", "rescore", handed.folder, *options)
    assert done.code == 0, done.err
    assert set(levels(handed).values()) == {(1, "rescored")}
    spec = read_leaderboard(handed.leaderboard)
    files = render(collect(spec, handed.folder.parent, of_leaderboard(spec)))
    assert b"| 1 rescored |" in files["README.md"]
    assert b'title="by A. Reviewer, ' in files["index.html"]
    assert validate(capsys, handed, handed.folder).code == 0  # the file may lie there
    handed.edit(lambda content: content["results"]["test"].update(kl_to_reference=0.125))
    assert levels(handed)["ppo"] == (0, "declared")
    assert levels(handed)["mine"] == (1, "rescored")


def test_one_seed_rescored_is_not_a_row(handed, capsys):
    options = ("--write-verification", "--by", "A. Reviewer")
    done = call(capsys, "results", "rescore", handed.run(f"{PPO}/0"), *options)
    assert done.code == 0, done.err
    assert "toy/ppo: not verified: seeds 1, 2 not rescored" in done.err
    assert levels(handed)["ppo"] == (0, "declared")


def test_trained_again_bit_for_bit(handed, capsys):
    """Every seed: level 3 after the first, level 4 after the last."""
    options = ("--write-verification", "--by", "A. Reviewer")
    for seed in range(3):
        done = call(capsys, "results", "retrain", handed.run(f"{PPO}/{seed}"), *options)
        assert done.code == 0, done.err
        assert ": bit-identical: record" in done.out
        wanted = (4, "replicated") if seed == 2 else (3, "retrained")
        assert levels(handed)["ppo"] == wanted
    content = json.loads((handed.folder / "toy" / "ppo" / "verification.json").read_text())
    assert [check["retrained"]["how"] for check in content["checks"]] == ["bitwise"] * 3


def test_how_parameters_were_counted_and_a_change_of_code_are_not_other_bits(handed, capsys):
    def change(content):
        content["policy"]["parameters"] += 1
        content["events"]["provenance_changed"] = 1

    handed.edit(change)
    options = ("--write-verification", "--by", "A. Reviewer")
    done = call(capsys, "results", "retrain", handed.run(), *options)
    assert done.code == 0, done.err
    assert ": bit-identical: record" in done.out
    assert levels(handed)["ppo"] == (3, "retrained")


def test_other_bits_inside_the_interval_of_the_other_seeds(handed, capsys, tmp_path):
    """The recorded number is a little off, as from another processor: the interval decides."""

    def change(content):
        content["results"]["test"]["metrics"]["chrf"]["value"] += 1e-5
        content["provenance"]["packages"]["torch"] = "1.0"

    handed.edit(change)
    output = tmp_path / "kept"
    done = call(capsys, "results", "retrain", handed.run(), "--out", output)
    assert done.code == 0, done.err
    assert "not bit-identical; chrf" in done.out
    assert "lies inside the 95 % prediction interval of the entry's other seeds [" in done.out
    assert "torch 1.0 → " in done.out
    assert read_record(output).status == "completed"
    done = call(capsys, "results", "retrain", handed.run(), "--out", output)
    assert (done.code, "holds a finished run" in done.err) == (2, True)


def test_a_number_that_training_does_not_give(handed, capsys):
    """The other seeds are raised together, so the honest new run falls outside their interval."""
    for number, seed in enumerate((0, 2)):
        value = 90.0 + 0.001 * number
        handed.edit(
            lambda content, value=value: content["results"]["test"]["metrics"]["chrf"].update(
                value=value
            ),
            f"{PPO}/{seed}",
        )
    handed.edit(lambda c: c["results"]["test"]["metrics"]["chrf"].update(value=90.0))
    done = call(capsys, "results", "retrain", handed.run())
    assert done.code == 3
    assert "not the same bits (results differ)" in done.err
    assert "outside [89.9" in done.err


def test_a_primary_metric_of_the_submitters_own(handed, capsys):
    handed.edit(lambda c: c["task"].update(primary_metric="bleu"))
    done = call(capsys, "results", "retrain", handed.run())
    assert (done.code, "the primary metric is bleu in the record, chrf now" in done.err) == (
        3,
        True,
    )
    handed.edit(lambda c: c["task"].update(primary_metric=""))
    done = call(capsys, "results", "retrain", handed.run())
    assert (done.code, "record (task.primary_metric: " in done.err) == (
        2,
        True,
    )


def test_without_two_other_seeds_only_bits_count(handed, capsys):
    shutil.rmtree(handed.run(f"{PPO}/2"))
    handed.edit(lambda c: c["results"]["test"]["metrics"]["chrf"].update(value=90.0))
    done = call(capsys, "results", "retrain", handed.run())
    assert (done.code, "an interval needs two" in done.err) == (3, True)


def test_a_run_that_failed_does_not_complete_now(handed, capsys):
    error = {"type": "ValueError", "message": "a loss is not finite"}
    handed.edit(lambda c: c.update(status="diverged", results={}, samples=None, error=error))
    done = call(capsys, "results", "retrain", handed.run())
    assert (done.code, "the run diverged in the record and completed now" in done.err) == (3, True)


def test_a_record_of_another_state_of_the_task(handed, capsys):
    handed.edit(lambda content: content["task"].update(version=7))
    done = call(capsys, "results", "retrain", handed.run())
    assert (done.code, "task.version is 7 in the record, 1 today" in done.err) == (2, True)
