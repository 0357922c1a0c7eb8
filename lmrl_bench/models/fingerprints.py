"""Fingerprints: which weights and which tokenizer, by content. No torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from lmrl_bench.assets import catalog
from lmrl_bench.digests import digest, file_sha256
from lmrl_bench.errors import AssetError, PolicyError
from lmrl_bench.models.names import (
    CONFIG,
    is_hub_id,
    resolve_model,
    shipped_policies,
    unknown_model,
)

_ADAPTER = "adapter_config.json"
_TOKENIZER = (
    "tokenizer*.json", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt",
    "*.spm", "spiece.model", "tokenizer.model",
)  # fmt: skip


@dataclass(frozen=True)
class ModelDigests:
    """Which weights and which tokenizer, by content (sha256, hex)."""

    weights: str
    tokenizer: str


def model_identity(resolved: str, revision: str | None = None) -> str:
    """Names the weights for signatures: the same on every machine, whatever the folder's place.

    Args:
        resolved: What `resolve_model` returned.
        revision: Commit of a hub id.
    """
    folder = Path(resolved)
    if not folder.is_dir():
        return f"{resolved}@{revision}"
    files = [folder / CONFIG, *sorted(folder.glob("*.safetensors"))]
    tokenizer = folder / "tokenizer.json"
    files += [tokenizer] if tokenizer.is_file() else []
    return f"{folder.name}@{digest([file_sha256(file) for file in files])[:12]}"


def model_digests(name: str, revision: str | None = None) -> ModelDigests:
    """Returns the digests of a model's files, or of a hub id's commit.

    Args:
        name: A shipped policy, an asset, a folder, or a hub id.
        revision: Commit, tag or branch of a hub id.

    Raises:
        AssetError: The asset is not installed.
        PolicyError: There is no such model, or it has no weights.
    """
    place = Path(resolve_model(name, revision))
    if place.is_dir():
        return _folder_digests(place)
    found = _hub_digests(name, revision)
    if found is None:
        raise PolicyError(unknown_model(name, "the hub cache does not say of which commit it is"))
    return found


def local_digests(name: str, revision: str | None = None) -> ModelDigests | None:
    """As `model_digests`, but asks no hub; None if the model is not on this machine. No torch."""
    known = name in shipped_policies() or name in catalog() or Path(name).expanduser().is_dir()
    if not known:
        return _hub_digests(name, revision) if is_hub_id(name) else None
    try:
        return model_digests(name, revision)
    except (AssetError, PolicyError):
        return None


def _folder_digests(folder: Path) -> ModelDigests:
    """Digests over names and contents of the files that `from_pretrained` and our critic read."""
    ours = ("*.safetensors", "value_trunk/*.safetensors")
    weights = sorted(file for pattern in ours for file in folder.glob(pattern))
    weights = weights or sorted(folder.glob("*.bin"))
    if not weights:
        raise PolicyError(
            f"folder '{folder}' holds no weights (*.safetensors); give the folder of a whole model"
        )
    own = {
        file.relative_to(folder).as_posix(): file_sha256(file)
        for file in [folder / CONFIG, *weights]
    }
    adapter = folder / _ADAPTER
    if adapter.is_file():  # its folder has the adapter's weights only
        base = json.loads(adapter.read_bytes())["base_model_name_or_path"]
        own |= {_ADAPTER: file_sha256(adapter), "base": model_digests(base).weights}
    tokenizer = sorted({file for pattern in _TOKENIZER for file in folder.glob(pattern)})
    return ModelDigests(digest(own), digest({file.name: file_sha256(file) for file in tokenizer}))


def _hub_digests(name: str, revision: str | None) -> ModelDigests | None:
    """A hub id's commit fixes its files, whichever of them are in the cache."""
    from transformers.utils.hub import cached_file, extract_commit_hash

    file = cached_file(
        name, CONFIG, revision=revision, local_files_only=True,
        _raise_exceptions_for_missing_entries=False, _raise_exceptions_for_connection_errors=False,
    )  # fmt: skip
    commit = extract_commit_hash(file, None)
    if commit is None:
        return None
    return ModelDigests(digest(["hub", name, commit]), digest(["hub", name, commit, "tokenizer"]))
