"""Fingerprints of weights and tokenizers, from the content of their files. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lmrl_bench.core.digests import digest, file_digest
from lmrl_bench.core.errors import DownloadError, PolicyError
from lmrl_bench.downloads import catalog, download_path
from lmrl_bench.models.facts import GENERATION, Use
from lmrl_bench.models.files import (
    ADAPTER_CONFIG,
    CONFIG,
    DOWNLOAD_BASE,
    GENERATION_CONFIG,
    adapter_base,
    check_base,
    critic_files,
    read_json,
    tokenizer_files,
    weight_files,
)
from lmrl_bench.models.names import is_hub_id, resolve_model, shipped_policies, unknown_model

_IDENTITIES: Final = {
    "e4ea7b519bd6": "8131e6842cd4",  # nano-causal
    "406c0ff43ae3": "330a96eeb9e3",  # nano-causal--imdb-continuation
    "2e8ae048d79b": "958c55c30731",  # nano-seq2seq
    "3f9d9f5d15e9": "678ccb7d742f",  # nano-seq2seq--debian-synopsis
    "fbc373992128": "096814f8b0e2",  # nano-seq2seq--docs-en-de
    "351a8b314080": "6ccf45619e65",  # nano-seq2seq--wordnet-concept2text
    "42a77f3dcf2e": "4395b93aa25d",  # minilm
    "3c6b383391f6": "3e28ac65843c",  # judge
    "780326b44da2": "fb4a9a70d5e5",  # reward
}
"""Identities in records by their current formula; an earlier formula omitted some of the files."""


@dataclass(frozen=True)
class ModelDigests:
    """Digests of weights and tokenizer, by content (sha256, hex)."""

    weights: str
    tokenizer: str


def model_identity(resolved: str, revision: str | None = None) -> str:
    """Returns a model's name for signatures, which does not depend on its location.

    Args:
        resolved: Result of `resolve_model`.
        revision: Commit of a hub id.

    Raises:
        PolicyError: The folder has no weights, or a file is damaged.
        DownloadError: The base download is not installed.
    """
    folder = Path(resolved)
    if not folder.is_dir():
        return f"{resolved}@{revision}"
    found = [_folder_digests(folder)]
    if (folder / DOWNLOAD_BASE).is_file():
        found.append(
            _folder_digests(download_path(str(read_json(folder / DOWNLOAD_BASE).get("download"))))
        )
    key = digest([[part.weights, part.tokenizer] for part in found])[:12]
    return f"{folder.name}@{_IDENTITIES.get(key, key)}"


def model_digests(name: str, revision: str | None = None) -> ModelDigests:
    """Returns the digests of a model's files, or of a hub id's commit.

    Args:
        name: A shipped policy, a download, a folder, or a hub id.
        revision: Commit, tag or branch of a hub id.

    Raises:
        DownloadError: The download is not installed.
        PolicyError: The model does not exist, has no weights, or has a damaged file.
    """
    place = Path(resolve_model(name, revision))
    if place.is_dir():
        return _folder_digests(place)
    found = _hub_digests(name, revision)
    if found is None:
        raise PolicyError(unknown_model(name, "its commit is missing from the hub cache"))
    return found


def local_digests(name: str, revision: str | None = None) -> ModelDigests | None:
    """Like `model_digests`, without network access; None if the model is not on this machine."""
    known = name in shipped_policies() or name in catalog() or Path(name).expanduser().is_dir()
    if not known:
        return _hub_digests(name, revision) if is_hub_id(name) else None
    try:
        return model_digests(name, revision)
    except (DownloadError, PolicyError):
        return None


def _folder_digests(folder: Path) -> ModelDigests:
    """Returns digests over names and contents of all files read with a model and its critic."""
    files = [*weight_files(folder), *critic_files(folder)]
    files += [file for file in (folder / CONFIG, folder / ADAPTER_CONFIG) if file.is_file()]
    if _says_more(folder):
        files.append(folder / GENERATION_CONFIG)
    own = {file.relative_to(folder).as_posix(): _sha256(file) for file in files}
    tokens = {
        file.relative_to(folder).as_posix(): _sha256(file) for file in tokenizer_files(folder)
    }
    base = _base_digests(folder)
    if base is not None:
        own["base"] = base.weights
    return ModelDigests(digest(own), digest(tokens) if tokens or base is None else base.tokenizer)


def _base_digests(folder: Path) -> ModelDigests | None:
    """Returns the digests of an adapter's base model."""
    named = adapter_base(folder)
    if named is None:
        return None
    check_base(folder, resolve_model(*named))
    return model_digests(*named)


def _says_more(folder: Path) -> bool:
    """Returns whether generation_config.json has a relevant fact that config.json lacks."""
    if not (folder / GENERATION_CONFIG).is_file():
        return False
    config = read_json(folder / CONFIG) if (folder / CONFIG).is_file() else {}
    stated = read_json(folder / GENERATION_CONFIG)
    counts = [name for name, fact in GENERATION.items() if fact.use is Use.USED]
    return any(stated.get(name) not in (None, config.get(name)) for name in counts)


def _sha256(file: Path) -> str:
    """Returns the digest of a file's content, cached until the file changes.

    Raises:
        PolicyError: The file cannot be read, or is a folder.
    """
    try:
        return file_digest(file)
    except OSError as error:
        raise PolicyError(
            f"{file}: cannot be read ({error.strerror or error}); restore the file"
        ) from error


def _hub_digests(name: str, revision: str | None) -> ModelDigests | None:
    """Returns digests of a hub id's commit, which determines all its files, cached or not."""
    from transformers.utils.hub import cached_file, extract_commit_hash

    file = cached_file(
        name, CONFIG, revision=revision, local_files_only=True,
        _raise_exceptions_for_missing_entries=False, _raise_exceptions_for_connection_errors=False,
    )  # fmt: skip
    commit = extract_commit_hash(file, None)
    if commit is None:
        return None
    return ModelDigests(digest(["hub", name, commit]), digest(["hub", name, commit, "tokenizer"]))
