"""Names of models to places: one rule for policies, frozen judges and reference models.

A name is a shipped policy, an asset, a folder, or a hub id `owner/name`, tried in this order.
"""

from __future__ import annotations

from pathlib import Path

from lmrl_bench.assets import asset_path, catalog
from lmrl_bench.digests import digest, file_sha256
from lmrl_bench.errors import PolicyError, nearest
from lmrl_bench.paths import PACKAGE

SHIPPED = PACKAGE / "policies" / "assets"
_CONFIG = "config.json"


def shipped_policies() -> list[str]:
    """Names of the policies whose weights lie in the package."""
    return sorted(file.parent.name for file in SHIPPED.glob(f"*/{_CONFIG}"))


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
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / _CONFIG).is_file():
            raise PolicyError(f"folder '{folder}' holds no model: it has no {_CONFIG}")
        return str(folder.resolve())
    if not _is_hub_id(name):
        raise PolicyError(_unknown(name, "no such folder, and no hub id"))
    _check_on_hub(name, revision)
    return name


def model_identity(resolved: str, revision: str | None = None) -> str:
    """Names the weights for signatures: the same on every machine, whatever the folder's place.

    Args:
        resolved: What `resolve_model` returned.
        revision: Commit of a hub id.
    """
    folder = Path(resolved)
    if not folder.is_dir():
        return f"{resolved}@{revision}"
    files = [folder / _CONFIG, *sorted(folder.glob("*.safetensors"))]
    tokenizer = folder / "tokenizer.json"
    files += [tokenizer] if tokenizer.is_file() else []
    return f"{folder.name}@{digest([file_sha256(file) for file in files])[:12]}"


def _is_hub_id(name: str) -> bool:
    owner, _, rest = name.partition("/")
    return bool(owner.strip(".~")) and bool(rest) and "/" not in rest and "\\" not in name


def _check_on_hub(name: str, revision: str | None) -> None:
    # The smallest file of a model tells whether it is in the cache or on the hub.
    from transformers.utils.hub import cached_file

    try:
        cached_file(name, _CONFIG, revision=revision)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise PolicyError(
            _unknown(name, f"not in the hub cache; the hub says: {reason}")
        ) from error


def _unknown(name: str, reason: str) -> str:
    shipped = shipped_policies()
    return (
        f"no model '{name}' ({reason}){nearest(name, [*shipped, *catalog()])}. "
        f"Give a shipped policy ({', '.join(shipped) or 'none in this installation'}), "
        f"an asset ({', '.join(catalog())}), a folder with a {_CONFIG}, "
        "or a hub id `owner/name` (needs the network or a filled cache)"
    )
