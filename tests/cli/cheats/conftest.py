"""A leaderboard of real runs that tests hand in after changing it; the leaderboard is run once for all of them."""

from __future__ import annotations

import shutil

import pytest
from fixtures.runs import call, make_world, point_at
from fixtures.submissions import LEADERBOARD, Handed, run_leaderboard, small_leaderboard


@pytest.fixture(scope="session")
def honest(tmp_path_factory):
    """Runs the leaderboard once; tests change copies."""
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("world")
        patch.chdir(root)
        world = make_world(root, patch.setenv)
        leaderboard = small_leaderboard(root)
        run_leaderboard(leaderboard, root / "results")
    return world, leaderboard


@pytest.fixture
def handed(honest, tmp_path, monkeypatch):
    world, leaderboard = honest
    monkeypatch.chdir(world.root)
    point_at(world.root, monkeypatch.setenv)
    shutil.copytree(world.root / "results", tmp_path / "handed")
    shutil.copytree(leaderboard, tmp_path / "leaderboard")
    return Handed(
        world, tmp_path / "leaderboard", tmp_path / "handed" / LEADERBOARD, world.root / "results"
    )


@pytest.fixture
def refuse(handed, capsys):
    """Calls a command on the results and returns its message; fails unless the exit code is 3."""

    def call_it(command: str, *options) -> str:
        options = (
            ("--leaderboard", handed.leaderboard, *options) if command == "validate" else options
        )
        done = call(capsys, "results", command, handed.folder, *options)
        assert done.code == 3, (done.code, done.out, done.err)
        assert "Traceback" not in done.err
        return done.err

    return call_it
