"""Checkpoints: whole or absent, and only for the run that they belong to."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
import torch

from lmrl_bench.core.errors import RecordError
from lmrl_bench.runs.checkpoint import load_checkpoint, remove_checkpoint, save_checkpoint


def state(number):
    return {"weights": torch.full((3,), float(number)), "names": ["a", "b"], "iteration": number}


def test_what_is_saved_is_loaded(tmp_path):
    assert load_checkpoint(tmp_path, key="run") is None
    save_checkpoint(tmp_path, state(1), key="run")
    save_checkpoint(tmp_path, state(2), key="run")
    loaded = load_checkpoint(tmp_path, key="run")
    assert loaded["iteration"] == 2
    assert torch.equal(loaded["weights"], state(2)["weights"])
    assert [path.name for path in (tmp_path / "checkpoint").iterdir()] == ["state.pt"]


def test_a_crash_while_writing_leaves_the_old_one(tmp_path, monkeypatch):
    save_checkpoint(tmp_path, state(1), key="run")

    def torn(_content, stream):
        stream.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", torn)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(tmp_path, state(2), key="run")
    assert load_checkpoint(tmp_path, key="run")["iteration"] == 1
    assert [path.name for path in (tmp_path / "checkpoint").iterdir()] == ["state.pt"]


def test_it_is_on_the_disk_before_it_replaces_the_old_one(tmp_path, monkeypatch):
    """File, renaming, folder: in another order a power cut could leave an empty checkpoint."""
    done = []
    fsync, replace = os.fsync, Path.replace

    def synced(handle):
        done.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        fsync(handle)

    def renamed(path, target):
        done.append("rename")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    save_checkpoint(tmp_path, state(1), key="run")
    assert done == ["file", "rename", "folder"]


def test_another_runs_checkpoint_is_refused(tmp_path):
    save_checkpoint(tmp_path, state(1), key="run")
    with pytest.raises(RecordError, match=r"state.pt.*another run configuration.*--rerun all"):
        load_checkpoint(tmp_path, key="other")


def test_a_corrupt_checkpoint_is_refused(tmp_path):
    save_checkpoint(tmp_path, state(1), key="run")
    path = tmp_path / "checkpoint" / "state.pt"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(RecordError, match=r"state.pt: the checkpoint cannot be read.*--rerun all"):
        load_checkpoint(tmp_path, key="run")


def test_no_code_is_loaded(tmp_path):
    class Code:
        def __reduce__(self):
            return (print, ("code ran",))

    save_checkpoint(tmp_path, {"x": Code()}, key="run")
    with pytest.raises(RecordError, match="cannot be read"):
        load_checkpoint(tmp_path, key="run")


def test_removing(tmp_path):
    remove_checkpoint(tmp_path)
    save_checkpoint(tmp_path, state(1), key="run")
    remove_checkpoint(tmp_path)
    assert list(tmp_path.iterdir()) == []
