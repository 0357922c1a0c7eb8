"""Resolves model names, with one rule for policies, frozen judges and reference models. No torch.

A name is a shipped policy, a download, a folder, or a hub id `owner/name`, tried in this order.
"""

from __future__ import annotations

from pathlib import Path

from lmrl_bench.core.errors import PolicyError, nearest
from lmrl_bench.core.paths import PACKAGE
from lmrl_bench.core.wording import reason_of
from lmrl_bench.downloads import catalog, download_path
from lmrl_bench.models.files import ADAPTER_CONFIG, CONFIG

SHIPPED = PACKAGE / "policies" / "weights"


def shipped_policies() -> list[str]:
    """Returns the names of the policies whose weights are part of the package."""
    return sorted(file.parent.name for file in SHIPPED.glob(f"*/{CONFIG}"))


def resolve_model(name: str, revision: str | None = None) -> str:
    """Returns an argument for `from_pretrained`: a folder, or a hub id that exists.

    Args:
        name: A shipped policy, a download, a folder, or a hub id `owner/name`.
        revision: Commit, tag or branch of a hub id.

    Raises:
        DownloadError: The download of this name is not installed.
        PolicyError: The name is none of the four, or the hub is not reachable.
    """
    if name in shipped_policies():
        return str(SHIPPED / name)
    if name in catalog():
        return str(download_path(name))
    try:
        folder = Path(name).expanduser()
        there = folder.is_dir()
    except (OSError, RuntimeError, ValueError) as error:  # such as a too long name, or ~nobody
        raise PolicyError(
            unknown_model(name[:80], f"the name cannot be a folder: {reason_of(error)}")
        ) from error
    if there:
        if not any((folder / file).is_file() for file in (CONFIG, ADAPTER_CONFIG)):
            raise PolicyError(f"folder '{folder}' is not a model: it has no {CONFIG}")
        return str(folder.resolve())
    if not is_hub_id(name):
        raise PolicyError(unknown_model(name, f"no folder {folder.absolute()}, and not a hub id"))
    _check_on_hub(name, revision)
    return name


def is_hub_id(name: str) -> bool:
    """Returns whether the name has the form `owner/name`."""
    owner, _, rest = name.partition("/")
    return bool(owner.strip(".~")) and bool(rest) and "/" not in rest and "\\" not in name


def _check_on_hub(name: str, revision: str | None) -> None:
    # The smallest file shows whether the model is in the cache or on the hub.
    from transformers.utils.hub import cached_file

    try:
        cached_file(name, CONFIG, revision=revision)
    except (OSError, ValueError) as error:
        raise PolicyError(
            unknown_model(name, f"not in the hub cache; the hub reports: {reason_of(error)}")
        ) from error


def unknown_model(name: str, reason: str) -> str:
    """Returns the error message for an unknown model name."""
    shipped = shipped_policies()
    return (
        f"no model '{name}' ({reason}){nearest(name, [*shipped, *catalog()])}. "
        f"Give a shipped policy ({', '.join(shipped) or 'none in this installation'}), "
        f"a download ({', '.join(catalog())}), a folder with a {CONFIG}, "
        "or a hub id `owner/name` (requires the network or a cached copy)"
    )
