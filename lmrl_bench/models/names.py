"""From the name of a model to its place: one rule for policies, frozen judges and reference models. No torch.

A name is a shipped policy, an asset, a folder, or a hub id `owner/name`, tried in this order.
"""

from __future__ import annotations

from pathlib import Path

from lmrl_bench.core.errors import PolicyError, nearest
from lmrl_bench.core.paths import PACKAGE
from lmrl_bench.core.wording import reason_of
from lmrl_bench.downloads import asset_path, catalog
from lmrl_bench.models.files import ADAPTER_CONFIG, CONFIG

SHIPPED = PACKAGE / "policies" / "weights"


def shipped_policies() -> list[str]:
    """Names of the policies whose weights lie in the package."""
    return sorted(file.parent.name for file in SHIPPED.glob(f"*/{CONFIG}"))


def resolve_model(name: str, revision: str | None = None) -> str:
    """Returns what `from_pretrained` can load: a folder, or a hub id that is known to exist.

    Args:
        name: A shipped policy, an asset, a folder, or a hub id `owner/name`.
        revision: Commit, tag or branch of a hub id.

    Raises:
        AssetError: The asset of this name is not installed.
        PolicyError: The name is none of the four, or its hub is out of reach.
    """
    if name in shipped_policies():
        return str(SHIPPED / name)
    if name in catalog():
        return str(asset_path(name))
    try:
        folder = Path(name).expanduser()
        there = folder.is_dir()
    except (OSError, RuntimeError, ValueError) as error:  # a name too long for a file; ~nobody
        raise PolicyError(
            unknown_model(name[:80], f"the name cannot be a folder: {reason_of(error)}")
        ) from error
    if there:
        if not any((folder / file).is_file() for file in (CONFIG, ADAPTER_CONFIG)):
            raise PolicyError(f"folder '{folder}' holds no model: it has no {CONFIG}")
        return str(folder.resolve())
    if not is_hub_id(name):
        raise PolicyError(unknown_model(name, f"no folder {folder.absolute()}, and no hub id"))
    _check_on_hub(name, revision)
    return name


def is_hub_id(name: str) -> bool:
    """True if the name has the form `owner/name`."""
    owner, _, rest = name.partition("/")
    return bool(owner.strip(".~")) and bool(rest) and "/" not in rest and "\\" not in name


def _check_on_hub(name: str, revision: str | None) -> None:
    # The smallest file of a model tells whether it is in the cache or on the hub.
    from transformers.utils.hub import cached_file

    try:
        cached_file(name, CONFIG, revision=revision)
    except (OSError, ValueError) as error:
        raise PolicyError(
            unknown_model(name, f"not in the hub cache; the hub says: {reason_of(error)}")
        ) from error


def unknown_model(name: str, reason: str) -> str:
    """Returns the message for a name that leads to no model."""
    shipped = shipped_policies()
    return (
        f"no model '{name}' ({reason}){nearest(name, [*shipped, *catalog()])}. "
        f"Give a shipped policy ({', '.join(shipped) or 'none in this installation'}), "
        f"an asset ({', '.join(catalog())}), a folder with a {CONFIG}, "
        "or a hub id `owner/name` (needs the network or a filled cache)"
    )
