"""A damaged file ends in the same result, or in a refusal with a remedy that works; never in other facts.

Every file that a run, or the SFT policy it begins from, has written is damaged in every way, at several moments;
then the same command is called. `DAMAGES=300 pytest tests/promises/test_damage.py` does 300 of the pairs, the suite 24;
`SEED` chooses others.
`python tests/promises/test_damage.py N` prints a line for each that is wrong.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pytest
import yaml
from fixtures.accidents import SETTINGS, Scene, remove

DAMAGES = int(os.environ.get("DAMAGES", "24"))
SEED = int(os.environ.get("SEED", "0"))


def flip(share: float) -> Callable[[Path, Path], None]:
    def damage(path: Path, _other: Path) -> None:
        content = bytearray(path.read_bytes())
        content[int(share * (len(content) - 1))] ^= 1
        path.write_bytes(content)

    return damage


def cut(path: Path, _other: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cut_last(path: Path, _other: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def zero_half(path: Path, _other: Path) -> None:
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[: size // 2] + bytes(size - size // 2))


def zeros(path: Path, _other: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def empty(path: Path, _other: Path) -> None:
    path.write_bytes(b"")


def delete(path: Path, _other: Path) -> None:
    path.unlink()


def replace(path: Path, other: Path) -> None:
    """By the file of the same run with another seed."""
    shutil.copy(other if other.exists() else __file__, path)


def append(path: Path, _other: Path) -> None:
    path.write_bytes(path.read_bytes() + b'{"kind": "train", "iteration": 1}\n')


def swap_lines(path: Path, _other: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[1:2], *lines[:1], *lines[2:]]))


def folder(path: Path, _other: Path) -> None:
    path.unlink()
    path.mkdir()


def link(path: Path, other: Path) -> None:
    path.unlink()
    path.symlink_to(other)


def delete_folder(path: Path, _other: Path) -> None:
    shutil.rmtree(path.parent)


DAMAGE: dict[str, Callable[[Path, Path], None]] = {
    **{f"flip at {share}": flip(share) for share in (0.0, 0.02, 0.3, 0.5, 0.7, 0.98, 1.0)},
    **{function.__name__: function for function in (
        cut, cut_last, zero_half, zeros, empty, delete, replace, append, swap_lines, folder, link,
        delete_folder,
    )},
}  # fmt: skip


class Damaged:
    """The moments, each a copy of what the commands have written by then."""

    def __init__(self, root: Path) -> None:
        self.scene = Scene(root / "scene")
        self.compared = ""
        self.saved = root / "saved"
        self.other = self._other_run()
        self.whole = self._moment("completed", None)
        self.facts, self.files = self.scene.facts(), self.scene.files()
        changes = [n for n, name in enumerate(self.whole, 1) if name == "replace state.tmp"]
        begun = [n for n, name in enumerate(self.whole, 1) if "replace .config.yaml" in name]
        start = begun[1]
        in_start, in_run = changes[0], changes[-3]
        assert in_start < start < in_run
        self._moment("in the start", in_start + 3)
        self._moment("killed", in_run + 3)
        self._moment("interrupted", in_run, stop=True)
        self.scene.restore(self.saved / "completed")
        remove(self.scene.root / "results")
        self.scene.save(self.saved / "before the run")
        self.moments = ("interrupted", "killed", "completed", "in the start", "before the run")

    def _other_run(self) -> Path:
        settings = self.scene.root / "run.yaml"
        text = settings.read_text()
        settings.write_text(yaml.safe_dump(SETTINGS | {"seed": 1}))
        assert self.scene.call().code == 0
        settings.write_text(text)
        return self.scene.save(self.saved / "other")

    def _moment(self, name: str, number: int | None, *, stop: bool = False) -> list[str]:
        self.scene.clear()

        def send_term(now: int, _name: str) -> None:
            if now == number:
                signal.raise_signal(signal.SIGTERM)

        if stop:
            found = self.scene.call(at=send_term)
            assert found.code == 1, found.text
        else:
            found = self.scene.call(kill_at=number)
            assert found.code == (0 if number is None else -9), found.text
        self.scene.save(self.saved / name)
        return found.operations

    def cases(self) -> list[tuple[str, str, str]]:
        """All (moment, file, damage), in a seeded order that begins with one of each moment and file."""
        files = [
            (moment, path.relative_to(self.saved / moment).as_posix())
            for moment in self.moments
            for path in sorted((self.saved / moment).rglob("*"))
            if path.is_file()
        ]
        draw = random.Random(SEED)
        draws = {file: draw.sample(sorted(DAMAGE), len(DAMAGE)) for file in files}
        draw.shuffle(files)
        return [(*file, draws[file][turn]) for turn in range(len(DAMAGE)) for file in files]

    def judge(self, moment: str, name: str, damage: str) -> str:
        """Returns "same", "refused", or what is wrong."""
        self.scene.restore(self.saved / moment)
        other = self.other / name
        # A run that is done does not look at its start again.
        self.compared = "results" if (moment, name[:5]) == ("completed", "cache") else ""
        DAMAGE[damage](self.scene.root / name, other)
        found = self.scene.call()
        if found.code == 0:
            return self._same()
        if "Traceback" in found.text or found.code != 2 or "error: " not in found.text:
            return f"wrong: exit {found.code}: {found.text.strip()[-300:]}"
        message = found.text[found.text.rindex("error: ") :].strip()
        if "--rerun all" in message:
            found = self.scene.call("run", "run.yaml", "--rerun", "all")
        elif "delete" in message or "remove" in message:
            remove(self.scene.root / "cache" if name.startswith("cache") else self.scene.output)
            found = self.scene.call()
        else:
            return f"wrong: no remedy: {message}"
        fixed = self._same() if found.code == 0 else found.text.strip()[-300:]
        return "refused" if fixed == "same" else f"wrong: its remedy fails: {message}: {fixed}"

    def _same(self) -> str:
        try:
            found = self.scene.facts(self.compared)
        except Exception as error:
            return f"wrong: a damaged file stays: {error}"
        wanted = {name: fact for name, fact in self.facts.items() if name.startswith(self.compared)}
        if changed := sorted(
            name for name in {*found, *wanted} if found.get(name) != wanted.get(name)
        ):
            return f"wrong: other facts {changed}"
        extra = sorted(set(self.scene.files()) - set(self.files))
        return "same" if self.compared or not extra else f"wrong: leftovers {extra}"


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    return Damaged(tmp_path_factory.mktemp("damage"))


def test_damage_ends_in_the_same_result_or_is_refused(damaged):
    found = {case: damaged.judge(*case) for case in itertools.islice(damaged.cases(), DAMAGES)}
    wrong = {case: text for case, text in found.items() if text not in ("same", "refused")}
    assert not wrong
    assert "refused" in found.values()


if __name__ == "__main__":
    import tempfile

    import torch

    torch.set_num_threads(1)
    import lmrl_bench.launchers.preloaded  # noqa: F401

    damaged_runs = Damaged(Path(tempfile.mkdtemp()).resolve())
    kinds: dict[str, int] = {}
    print(len(damaged_runs.cases()), "cases", flush=True)
    for case in itertools.islice(damaged_runs.cases(), int(sys.argv[1])):
        text = damaged_runs.judge(*case)
        kind = ": ".join(text.split(": ")[:2])[:40] if text.startswith("wrong") else text
        kinds[kind] = kinds.get(kind, 0) + 1
        if text.startswith("wrong"):
            print(*case, "|", text.replace("\n", " ")[-250:], flush=True)
    print(kinds)
