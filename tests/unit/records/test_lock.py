"""One run, one process."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading

import pytest

from lmrl_bench.core.errors import RecordError
from lmrl_bench.records.lock import LOCK, RunLock


def claim(folder, pid, host=None):
    content = {"pid": pid, "host": host or socket.gethostname()}
    (folder / LOCK).write_text(json.dumps(content))


def dead_pid():
    return int(subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"],
                              capture_output=True, check=True).stdout)  # fmt: skip


def test_a_second_lock_is_refused_until_the_first_is_released(tmp_path):
    with RunLock(tmp_path):
        with (
            pytest.raises(RecordError, match=rf"process {os.getpid()} on .* is running here"),
            RunLock(tmp_path),
        ):
            pass
        assert (tmp_path / LOCK).exists()
    assert not (tmp_path / LOCK).exists()
    with RunLock(tmp_path):
        pass


def test_released_after_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError), RunLock(tmp_path):
        raise ZeroDivisionError
    assert not (tmp_path / LOCK).exists()


def test_a_living_process_keeps_it(tmp_path):
    claim(tmp_path, os.getppid())
    with (
        pytest.raises(RecordError, match="is running here; wait for it, or remove"),
        RunLock(tmp_path),
    ):
        pass


def test_another_host_cannot_be_judged(tmp_path):
    claim(tmp_path, dead_pid(), host="elsewhere")
    with pytest.raises(RecordError, match="on elsewhere is running here"), RunLock(tmp_path):
        pass


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b'{"pid": 1',
        b"[]",
        b"\xff\x00",
        b"[" * 4000,
        b'{"pid": 99999999999999999999, "host": "x"}',
        b'{"pid": -1, "host": "x"}',
        b'{"pid": true, "host": 1}',
    ],
)
def test_stale_locks_are_taken_over(tmp_path, content):
    if content is None:
        claim(tmp_path, dead_pid())
    else:
        (tmp_path / LOCK).write_bytes(content)
    with RunLock(tmp_path):
        assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()


def test_our_number_from_an_earlier_boot_is_stale(tmp_path):
    claim(tmp_path, os.getpid())
    with RunLock(tmp_path):
        pass


def test_a_dead_process_whose_number_another_one_has_by_now_is_stale(tmp_path):
    content = {"pid": os.getppid(), "host": socket.gethostname(), "started": 1}
    (tmp_path / LOCK).write_text(json.dumps(content))
    with RunLock(tmp_path):
        assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()


def test_a_lock_that_another_process_took_meanwhile_is_not_removed(tmp_path):
    """Someone moved the folder away, and another process began in its place."""
    with RunLock(tmp_path):
        claim(tmp_path, os.getppid())
    assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getppid()


def test_the_folder_of_a_lock_may_be_gone_in_the_end(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    with RunLock(folder):
        shutil.rmtree(folder)
    assert not folder.exists()


def test_a_lock_that_is_a_link_or_a_folder_is_refused(tmp_path):
    target = tmp_path / "precious"
    target.write_text("mine")
    (tmp_path / LOCK).symlink_to(target)
    with (
        pytest.raises(RecordError, match=r"cannot be locked: .*; make the folder writable"),
        RunLock(tmp_path),
    ):
        pass
    assert target.read_text() == "mine"
    (tmp_path / LOCK).unlink()
    (tmp_path / LOCK).mkdir()
    with pytest.raises(RecordError, match="cannot be locked"), RunLock(tmp_path):
        pass


@pytest.mark.parametrize("attempt", range(4))
def test_only_one_of_many_gets_it(tmp_path, attempt):
    claim(tmp_path, dead_pid())
    barrier, done, got = threading.Barrier(16), threading.Event(), []

    def note(result):
        got.append(result)
        if len(got) == 16:
            done.set()

    def work():
        barrier.wait()
        try:
            with RunLock(tmp_path):
                note(1)
                done.wait(10)
        except RecordError:
            note(0)

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    assert done.wait(20)
    for thread in threads:
        thread.join()
    assert sum(got) == 1


def test_a_missing_folder(tmp_path):
    with pytest.raises(RecordError, match="cannot be locked"), RunLock(tmp_path / "none"):
        pass
