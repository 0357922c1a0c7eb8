"""Experiment trackers: chosen by name, offline, without a part in the digest; libraries may be missing."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
from fixtures.runs import SETTINGS

from lmrl_bench import run
from lmrl_bench.core.errors import ConfigError
from lmrl_bench.records.store import read_curves
from lmrl_bench.runs import trackers
from lmrl_bench.runs.trackers import TRACKERS, make_trackers


class FakeLibrary(SimpleNamespace):
    """A module with W&B's interface that keeps what it is told."""

    def __init__(self):
        super().__init__(started=[], logged=[], finished=0)

    def init(self, **options):
        self.started.append(options)
        return self

    def log(self, numbers, step):
        self.logged.append((step, numbers))

    def finish(self):
        self.finished += 1


@pytest.fixture(params=["trackio", "wandb"])
def fake(request, monkeypatch):
    """The name of a tracker, and the library that stands in for its own."""
    library = FakeLibrary()
    monkeypatch.setitem(sys.modules, request.param, library)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    return request.param, library


def with_trackers(world, output, *names):
    place = SETTINGS["runtime"] | {"output": str(world.root / output), "trackers": list(names)}
    return world.given(output, runtime=place)


def test_a_run_is_shown_as_its_curves_have_it(world, fake):
    name, library = fake
    record = run("toy", "ppo", config=with_trackers(world, "out", name))
    assert record.status == "completed"
    (started,) = library.started
    assert (started["project"], started["name"]) == ("lmrl-bench", record.id)
    assert started["config"]["algorithm"]["name"] == "ppo"
    assert started["config"]["seed"] == 0
    assert library.finished == 1
    lines = read_curves(world.root / "out")
    trained = [line for line in lines if line["kind"] == "train"]
    logged = {step: numbers for step, numbers in library.logged if "rollout/score" in numbers}
    assert list(logged) == [line["tokens"] for line in trained]
    for line in trained:
        assert logged[line["tokens"]]["rollout/score"] == line["rollout/score"]
    validated = [step for step, numbers in library.logged if "validation/reward" in numbers]
    assert validated == [line["tokens"] for line in lines if line["kind"] == "validation"]
    steps = [step for step, _ in library.logged]
    assert steps == sorted(steps)  # W&B drops numbers of earlier steps


def test_trackers_change_no_result(world, fake):
    plain = run("toy", "ppo", config=world.given("plain"))
    shown = run("toy", "ppo", config=with_trackers(world, "shown", fake[0]))
    assert shown.config_digest == plain.config_digest
    assert shown.results == plain.results


def test_weights_and_biases_is_offline_unless_the_user_says_otherwise(tmp_path, monkeypatch):
    library = FakeLibrary()
    monkeypatch.setitem(sys.modules, "wandb", library)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    make_trackers(["wandb"], tmp_path / "run", "a", {})
    monkeypatch.setenv("WANDB_MODE", "online")
    make_trackers(["wandb"], tmp_path / "run", "a", {})
    assert [options["mode"] for options in library.started] == ["offline", "online"]
    assert {options["dir"] for options in library.started} == {str(tmp_path / "run")}
    assert (tmp_path / "run").is_dir()


def test_several_trackers_and_one_named_twice(tmp_path, monkeypatch):
    for name in ("trackio", "wandb"):
        monkeypatch.setitem(sys.modules, name, FakeLibrary())
    shown = make_trackers(["trackio", "wandb", "trackio"], tmp_path, "a", {})
    shown.write(3, {"x": 1.0})
    shown.close()
    for name in ("trackio", "wandb"):
        assert sys.modules[name].logged == [(3, {"x": 1.0})]
        assert sys.modules[name].finished == 1


def test_no_tracker_writes_nothing(tmp_path):
    nothing = make_trackers([], tmp_path / "run", "a", {})
    nothing.write(1, {"x": 1.0})
    nothing.close()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "extra"), [("tensorboard", "trackers"), ("trackio", "trackio"), ("wandb", "wandb")]
)
def test_a_missing_library_is_named_with_its_extra_and_leaves_no_folder(
    world, monkeypatch, name, extra
):
    module = "torch.utils.tensorboard" if name == "tensorboard" else name
    monkeypatch.setitem(sys.modules, module, None)  # import raises ImportError
    with pytest.raises(ConfigError, match=rf"'{name}' needs the extra '{extra}': pip install"):
        run("toy", "ppo", config=with_trackers(world, "out", name))
    assert not list((world.root / "out").glob("*"))


def test_an_unknown_tracker_is_named_with_the_nearest(world):
    with pytest.raises(ConfigError, match="unknown tracker 'tensorbord'; did you mean 'tensorb"):
        run("toy", "ppo", config=with_trackers(world, "out", "tensorbord"))


def test_tensorboard_writes_scalars(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    shown = make_trackers(["tensorboard"], tmp_path, "a", {})
    shown.write(8, {"rollout/score": 0.5})
    shown.close()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in events.Scalars("rollout/score")] == [(8, 0.5)]


def test_weights_and_biases_writes_without_a_network(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    shown = make_trackers(["wandb"], tmp_path, "a", {"seed": 0})
    shown.write(1, {"rollout/score": 0.5})
    shown.close()
    assert list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))


def test_trackio_writes_without_a_network(tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path))
    pytest.importorskip("trackio")
    shown = make_trackers(["trackio"], tmp_path, "a", {"seed": 0})
    shown.write(1, {"rollout/score": 0.5})
    shown.close()
    assert list(tmp_path.glob("*.db"))


def test_a_plug_in_is_a_tracker(tmp_path):
    class Mine:
        def __init__(self, folder, name, config):
            self.numbers = {}

        def write(self, step, numbers):
            self.numbers |= numbers

        def close(self):
            self.numbers["closed"] = True

    TRACKERS.add("mine", Mine)
    try:
        shown = make_trackers(["mine"], tmp_path, "a", {})
        shown.write(1, {"x": 2.0})
        shown.close()
        (mine,) = shown._trackers
        assert mine.numbers == {"x": 2.0, "closed": True}
    finally:
        del TRACKERS._objects["mine"]
    assert trackers.PROJECT == "lmrl-bench"
