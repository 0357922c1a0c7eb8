"""One run from configuration to record: completed, found again, refused, failed, begun afresh."""

from __future__ import annotations

import json
import shutil
import signal

import pytest
from fixtures.runs import SETTINGS, call
from fixtures.toy import tiny_causal

from lmrl_bench import run
from lmrl_bench.core.errors import DivergedError, PolicyError, RecordError
from lmrl_bench.envs.core import EpisodeCore
from lmrl_bench.planning.plan import RerunPolicy, plan_run
from lmrl_bench.planning.resolve import resolve
from lmrl_bench.records.provenance import collect
from lmrl_bench.records.store import check_files, read_curves, read_record, read_samples
from lmrl_bench.runs import execute as module
from lmrl_bench.runs import journal
from lmrl_bench.runs.execute import execute
from lmrl_bench.runs.record_parts import write_failure
from lmrl_bench.runs.trainer import Trainer


def test_a_completed_run_has_all_its_files_and_is_not_run_again(world, monkeypatch):
    events = []
    record = run(
        "toy",
        "ppo",
        config=world.given(evaluation={**QUICK, "greedy": True}),
        progress=events.append,
    )
    folder = world.root / "out"
    assert record.status == "completed"
    assert record == read_record(folder)
    check_files(folder, record)
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.yaml", "curves.jsonl", "record.json", "samples.parquet",
    ]  # fmt: skip
    assert set(record.results) == {"validation", "test", "test-greedy"}
    assert record.budget.tokens >= 60
    assert set(record.fidelity.flags) <= {"truncated_share"}  # a random policy seldom ends
    assert record.fidelity.max_logprob_difference < 1e-4
    kinds = [event.kind for event in events]
    assert kinds[0] == "started"
    assert kinds[-1] == "finished"
    assert kinds.count("iteration") == record.budget.iterations
    lines = read_curves(folder)
    assert [line["iteration"] for line in lines if line["kind"] == "train"] == list(
        range(1, record.budget.iterations + 1)
    )
    validated = [line["iteration"] for line in lines if line["kind"] == "validation"]
    assert validated[0] == 0
    assert validated[-1] == record.budget.iterations
    assert len(set(validated)) == len(validated)
    table = read_samples(folder)
    assert table.num_rows == 8
    rewards = [row["reward"] for row in table.to_pylist() if row["decoding"] == "test"]
    assert record.results["test"].reward == pytest.approx(sum(rewards) / 4)

    monkeypatch.setattr(module, "open_session", lambda *_: pytest.fail("work was done"))
    again = run("toy", "ppo", config=world.given(evaluation={**QUICK, "greedy": True}))
    assert again == record


QUICK = {"every": 2, "validation_samples": 4, "test_samples": 4, "greedy": False}


def test_a_folder_with_another_runs_record_is_refused_and_left_alone(world):
    run("toy", "no-training", config=world.given())
    before = (world.root / "out" / "record.json").read_bytes()
    for change in ({"evaluation": {**QUICK, "test_samples": 3}}, {}):
        seed = 0 if change else 1
        with pytest.raises(RecordError, match=r"out holds the record of another run.*--rerun all"):
            run("toy", "no-training", config=world.given(**change), seed=seed)
    assert (world.root / "out" / "record.json").read_bytes() == before
    record = run("toy", "no-training", config=world.given(), seed=1, rerun="all")
    assert record.seed == 1
    world.edit_task(version=2)
    with pytest.raises(RecordError, match="another run"):
        run("toy", "no-training", config=world.given(), seed=1)


def test_fresh_forgets_the_record_before_training(world, monkeypatch):
    """A fresh run that is killed must not leave the old record next to new curves."""
    run("toy", "no-training", config=world.given())

    def killed(*_):
        raise SystemExit

    monkeypatch.setattr(Trainer, "_validate", killed)
    with pytest.raises(SystemExit):
        run("toy", "no-training", config=world.given(), rerun="all")
    assert not (world.root / "out" / "record.json").exists()


def test_fresh_keeps_the_record_of_a_run_that_cannot_start_again(world, monkeypatch):
    run("toy", "no-training", config=world.given())

    def refused(*_):
        raise PolicyError("planted")

    monkeypatch.setattr(module, "open_session", refused)
    with pytest.raises(PolicyError, match="planted"):
        run("toy", "no-training", config=world.given(), rerun="all")
    assert (world.root / "out" / "record.json").exists()


def test_a_crash_is_a_record_and_the_next_call_goes_on_from_the_checkpoint(world, monkeypatch):
    validate = Trainer._validate

    def crash(self, iteration, tokens):
        if iteration == 4:
            raise ZeroDivisionError("planted")
        validate(self, iteration, tokens)

    monkeypatch.setattr(Trainer, "_validate", crash)
    given = world.given(budget={"tokens": 250})
    record = run("toy", "ppo", config=given)
    assert record.status == "failed"
    assert record.error.type == "ZeroDivisionError"
    assert record.error.iteration == 4
    assert "in crash" in record.error.traceback
    assert str(world.root) not in record.error.traceback
    assert (world.root / "out" / "checkpoint" / "state.pt").exists()
    assert record.results["validation"].n == 4

    monkeypatch.setattr(Trainer, "_validate", validate)
    events = []
    resumed = run("toy", "ppo", config=given, progress=events.append)
    assert resumed.status == "completed"
    assert events[0].text == "resumed"
    whole = run("toy", "ppo", config=world.given("whole", budget={"tokens": 250}))
    assert resumed.digest() == whole.digest()
    assert not (world.root / "out" / "checkpoint").exists()


def crashed_run(world, monkeypatch):
    """Leaves a failed record and a checkpoint; returns the run's folder and what it was given."""
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "test", lambda self: 1 / 0)
        given = world.given()
        assert run("toy", "ppo", config=given).status == "failed"
    return world.root / "out", given


def test_a_resumed_run_forgets_the_record_before_its_curves_change(world, monkeypatch):
    folder, given = crashed_run(world, monkeypatch)

    def killed(*_):
        raise SystemExit

    monkeypatch.setattr(Trainer, "test", killed)
    with pytest.raises(SystemExit):
        run("toy", "ppo", config=given)
    assert not (folder / "record.json").exists()
    assert (folder / "checkpoint" / "state.pt").exists()


def test_the_provenance_is_the_one_with_which_the_run_began(world, monkeypatch):
    """The code is committed while the run learns; its second sitting is by other code, which is an event."""
    commits = ["a" * 40]

    def collected(device, threads):
        return collect(device, threads).model_copy(update={"commit": commits[-1]})

    def crash(self):
        commits.append("b" * 40)
        raise OSError("planted")

    monkeypatch.setattr(journal, "collect", collected)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "test", crash)
        failed = run("toy", "ppo", config=world.given())
    assert failed.provenance.commit == "a" * 40
    assert "provenance_changed" not in failed.events
    notes = []
    resumed = run("toy", "ppo", config=world.given(), progress=notes.append)
    assert resumed.provenance == failed.provenance
    assert resumed.events["provenance_changed"] == 1
    assert notes[1].text == "changed since the run began: commit; the record names the first"


@pytest.mark.parametrize("damage", ["missing", "corrupt"])
def test_a_checkpoint_without_its_curves_is_refused_and_nothing_changes(
    world, monkeypatch, capsys, damage
):
    folder, given = crashed_run(world, monkeypatch)
    curves = folder / "curves.jsonl"
    curves.write_text("{bad\n{}\n")
    if damage == "missing":
        curves.unlink()
    before = published(folder)
    refused = call(capsys, "run", world.run_file(algorithm=given["algorithm"]))
    assert refused.code == 2
    assert ("missing, but there is a checkpoint; restore it" in refused.err) == (
        damage == "missing"
    )
    assert "--rerun all" in refused.err
    assert published(folder) == before


def test_a_kill_between_the_last_evaluation_and_its_checkpoint_doubles_no_line(world, monkeypatch):
    settings = {"evaluation": {"every": 100}, "runtime": {"checkpoint_every": 1}}
    checkpoint = Trainer._checkpoint

    def killed(self):
        if self.journal.validated:
            raise SystemExit
        checkpoint(self)

    given = world.given(**settings)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_checkpoint", killed)
        with pytest.raises(SystemExit):
            run("toy", "ppo", config=given)
    assert read_curves(world.root / "out")[-1]["kind"] == "validation"
    resumed = run("toy", "ppo", config=given)
    whole = run("toy", "ppo", config=world.given("whole", **settings))
    assert resumed.digest() == whole.digest()


@pytest.mark.parametrize("change", ["deleted", "moved", "config", "curves", "curves appended"])
@pytest.mark.parametrize("moment", ["iteration", "test"])
def test_what_happens_to_the_folder_while_a_run_goes_on_is_an_error(
    world, capsys, monkeypatch, change, moment
):
    """The folder of results is deleted while a run goes on: no record may say that it completed."""
    folder = world.root / "out"

    def act(*_):
        if change == "deleted":
            shutil.rmtree(folder)
        elif change == "moved":
            folder.rename(world.root / "moved")
        elif change == "config":
            (folder / "config.yaml").unlink()
        elif change == "curves":
            (folder / "curves.jsonl").unlink()
        else:
            with (folder / "curves.jsonl").open("a") as stream:
                stream.write("{}\n")

    name = "_after_iteration" if moment == "iteration" else "test"
    original, acted = getattr(Trainer, name), []

    def disturbed(self, *arguments):
        if not acted:
            acted.append(1)
            act()
        original(self, *arguments)

    file = world.run_file(algorithm=SETTINGS["algorithm"])
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, name, disturbed)
        found = call(capsys, "run", file)
    assert acted
    assert found.code == 2
    assert "by another program during the run" in found.err
    assert not list(world.root.glob("*/record.json"))
    assert folder.exists() == (change not in ("deleted", "moved"))
    again = call(capsys, "run", file)
    if (change, moment) == ("curves", "test"):  # a checkpoint refers to them
        assert again.code == 2
        again = call(capsys, "run", file, "--rerun", "all")
    assert again.code == 0, again.err
    whole = run("toy", "ppo", config=world.given("whole"))
    assert read_record(folder).digest() == whole.digest()


@pytest.mark.parametrize("name", ["curves.jsonl", "samples.parquet", "record.json", "config.yaml"])
@pytest.mark.parametrize("damage", ["deleted", "flipped", "emptied"])
def test_a_finished_run_that_is_damaged_is_done_again(world, name, damage):
    given = world.given()
    record = run("toy", "ppo", config=given)
    path = world.root / "out" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "deleted":
        path.unlink()
    else:
        path.write_bytes(content if damage == "flipped" else b"")
    events = []
    again = run("toy", "ppo", config=given, progress=events.append)
    check_files(world.root / "out", again)
    assert again.digest() == record.digest()
    assert "entry: null" in (world.root / "out" / "config.yaml").read_text()
    assert (again == record) == (name == "config.yaml")  # which alone is written again
    notes = [event.text for event in events if event.kind == "note"]
    assert any(name in note for note in notes) == (name != "record.json" or damage != "deleted")


def test_a_folder_in_the_place_of_a_file_is_named_with_the_remedy(world, capsys):
    file = world.run_file(algorithm=SETTINGS["algorithm"])
    assert call(capsys, "run", file).code == 0
    samples = world.root / "out" / "samples.parquet"
    samples.unlink()
    samples.mkdir()
    refused = call(capsys, "run", file)
    assert refused.code == 2
    assert "samples.parquet: cannot be written: Is a directory; remove this folder" in refused.err
    samples.rmdir()
    assert call(capsys, "run", file).code == 0


def test_a_damaged_record_in_a_folder_of_something_else_is_left_alone(world, capsys):
    folder = world.root / "out"
    folder.mkdir()
    (folder / "record.json").write_text("mine")
    refused = call(capsys, "run", world.run_file(algorithm=SETTINGS["algorithm"]))
    assert refused.code == 2
    assert "record.json: damaged" in refused.err
    assert "--rerun all" in refused.err
    assert (folder / "record.json").read_text() == "mine"


@pytest.mark.parametrize("share", [0.001, 0.3, 0.7, 0.999])
def test_a_damaged_checkpoint_is_refused_and_the_remedies_work(world, monkeypatch, capsys, share):
    folder, given = crashed_run(world, monkeypatch)
    state = folder / "checkpoint" / "state.pt"
    content = bytearray(state.read_bytes())
    content[int(share * len(content))] ^= 1
    state.write_bytes(content)
    before = published(folder)
    file = world.run_file(algorithm=given["algorithm"])
    refused = call(capsys, "run", file)
    assert refused.code == 2
    assert "state.pt: the checkpoint cannot be read (it is damaged" in refused.err
    assert "--rerun all, or delete the folder of the checkpoint" in refused.err
    assert published(folder) == before
    shutil.rmtree(folder / "checkpoint")
    assert call(capsys, "run", file).code == 0
    whole = run("toy", "ppo", config=world.given("whole"))
    assert read_record(folder).digest() == whole.digest()


def test_only_our_own_leftovers_are_removed(world):
    folder = world.root / "out"
    (folder / "checkpoint").mkdir(parents=True)
    (folder / ".policy-abcdefgh-old").mkdir()
    ours = [".record.json.a1b2c3d4", ".curves.jsonl.________", ".writable.abcdefgh"]
    others = [
        ".record.json.backup",
        "record.json.bak12345",
        ".policy-notes",
        ".curves.jsonl.ABCDEFGH",
    ]
    for name in (*ours, *others, ".policy-abcdefgh-old/config.json", "checkpoint/state.tmp"):
        (folder / name).write_text("x")
    run("toy", "no-training", config=world.given(algorithm={"name": "no-training"}))
    left = {path.name for path in folder.iterdir()}
    assert left == {"record.json", "config.yaml", "curves.jsonl", "samples.parquet", *others}


def test_the_kept_policy_is_a_model_folder(world):
    given = world.given(runtime={"keep_policy": True, "output": str(world.root / "out")})
    record = run("toy", "sft", config={**given, "algorithm": {"name": "sft", "epochs": 1}})
    assert record.status == "completed"
    config = json.loads((world.root / "out" / "policy" / "config.json").read_text())
    assert config["vocab_size"] == 45


def published(folder):
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_what_is_published_names_no_folder_of_the_users(world, monkeypatch, tmp_path_factory):
    """The model is a folder, the run fails on a file, and its command line names both."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.chdir(elsewhere)
    secret = str(world.root)
    monkeypatch.setattr("sys.argv", ["lmrl-bench", "run", f"{secret}/run.yaml", "--policy", secret])

    def fails(self):
        raise OSError(f"{secret}/deep/file.json: cannot be read")

    completed = run("toy", "ppo", config=world.given())
    assert completed.status == "completed"
    assert completed.policy.model == completed.config["policy"]["model"] == "model"
    monkeypatch.setattr(Trainer, "test", fails)
    failed = run(
        "toy", "no-training", config=world.given("failed", algorithm={"name": "no-training"})
    )
    assert failed.error.message == "file.json: cannot be read"
    assert "OSError: file.json: cannot be read" in failed.error.traceback
    config = resolve(world.task, world.given("early", algorithm={"name": "no-training"}))
    early = write_failure(plan_run(world.task, config), PolicyError(f"'{secret}/model' is broken"))
    assert early.error.message == "'model' is broken"
    for name in ("out", "failed", "early"):
        found = published(world.root / name)
        assert secret.encode() not in found
        assert str(elsewhere).encode() not in found


def test_the_place_of_a_model_is_not_part_of_the_experiment(world, monkeypatch):
    """The same weights under another parent are the same run; other weights of that name are not."""
    given = world.given(algorithm={"name": "no-training"})
    first = run("toy", "no-training", config=given)
    moved = world.root / "moved" / "model"
    shutil.copytree(world.model, moved)
    policy = {"init": "base", "model": str(moved)}
    assert run("toy", "no-training", config={**given, "policy": policy}) == first
    tiny_causal("gpt2", seed=7).save_pretrained(moved)
    with pytest.raises(RecordError, match=r"policy\.base_weights_sha256 is \w+… in the record"):
        run("toy", "no-training", config={**given, "policy": policy})


def test_a_diverged_run_is_done_and_a_failed_one_is_run_again_if_asked(world, monkeypatch):
    for error, status in ((DivergedError("planted"), "diverged"), (OSError("planted"), "failed")):
        calls = []

        def fails(self, error=error, calls=calls):
            calls.append(error)
            raise error

        monkeypatch.setattr(Trainer, "test", fails)
        config = resolve(world.task, world.given(status))

        def again(rerun, config=config):
            return execute(plan_run(world.task, config, rerun=rerun))

        assert again(RerunPolicy.FAILED).status == status
        kept = again(RerunPolicy.NONE)
        assert (kept.status, len(calls)) == (status, 1)
        again(RerunPolicy.FAILED)
        assert len(calls) == (1 if status == "diverged" else 2)
        again(RerunPolicy.ALL)
        assert len(calls) == (2 if status == "diverged" else 3)
        kept_checkpoint = (world.root / status / "checkpoint").exists()
        assert kept_checkpoint == (status == "failed")


def test_stale_records_are_replaced_only_if_asked(world):
    run("toy", "no-training", config=world.given())
    world.edit_task(version=2)
    config = resolve(world.task, world.given(algorithm={"name": "no-training"}))
    with pytest.raises(RecordError, match=r"task\.version is 1 in the record, 2 today"):
        execute(plan_run(world.task, config))
    again = execute(plan_run(world.task, config, rerun=RerunPolicy.STALE))
    assert again.task.version == 2


def test_illegal_ends_are_counted_in_the_record_over_all_sittings(world, monkeypatch):
    """Our own policies never draw an early EOS; whatever does is told of."""
    count = EpisodeCore._count

    def planted(self, batch):
        count(self, batch)
        self.counters.early_eos += 1

    monkeypatch.setattr(EpisodeCore, "_count", planted)
    whole = run("toy", "ppo", config=world.given("whole"))
    assert whole.events["early_eos"] == whole.budget.iterations

    def stop(event):
        if event.kind == "iteration":
            signal.raise_signal(signal.SIGTERM)

    assert run("toy", "ppo", config=world.given(), progress=stop).status == "interrupted"
    assert run("toy", "ppo", config=world.given()).events == whole.events


def test_reward_transforms_change_training_and_leave_evaluations_alone(world):
    """With a learning rate of almost nothing both policies answer alike, so evaluations must agree."""
    frozen = {"name": "reinforce", "episodes_per_iteration": 4, "learning_rate": 1e-30}
    world.edit_task(reward={"transforms": [{"name": "affine", "args": {"shift": 7.0}}]})
    shifted = run("toy", "reinforce", config=world.given(algorithm=frozen))
    plain = run(
        "toy", "reinforce", config=world.given("plain", algorithm=frozen, reward={"transforms": []})
    )
    assert shifted.config["reward"]["transforms"][0]["args"] == {"shift": 7.0}
    assert shifted.results == plain.results
    lines = [read_curves(world.root / name) for name in ("out", "plain")]
    for mine, other in zip(*lines, strict=True):
        if mine["kind"] == "train":
            assert mine["rollout/score"] == other["rollout/score"]
            assert mine["rollout/transformed/affine"] == pytest.approx(mine["rollout/score"] + 7)
            assert mine["rollout/reward"] == pytest.approx(other["rollout/reward"] + 7)
