"""The files of a checkpoint folder, in the order in which libraries look for them. No torch."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any, Final

from lmrl_bench.core.errors import PolicyError
from lmrl_bench.core.wording import reason_of

CONFIG: Final = "config.json"
GENERATION_CONFIG: Final = "generation_config.json"
ADAPTER_CONFIG: Final = "adapter_config.json"
DOWNLOAD_BASE: Final = "base.json"
HEAD_FILE: Final = "value_head.safetensors"
TRUNK_FOLDER: Final = "value_trunk"

_WEIGHTS: Final = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
_ADAPTER_WEIGHTS: Final = ("adapter_model.safetensors", "adapter_model.bin")
_TOKENIZER: Final = (
    "tokenizer*.json", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt",
    "*.spm", "*.model", "*.tiktoken", "chat_template*", "additional_chat_templates/*.jinja",
)  # fmt: skip


def read_json(file: Path) -> dict[str, Any]:
    """Reads one JSON object.

    Raises:
        PolicyError: The file cannot be read, or is not a JSON object.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise PolicyError(
            f"{file}: cannot be read as JSON ({reason_of(error)}); restore the file"
        ) from error
    if not isinstance(found, dict):
        raise PolicyError(
            f"{file}: expected a JSON object, found {type(found).__name__}; restore the file"
        )
    return found


def adapter_base(folder: Path) -> tuple[str, str | None] | None:
    """Returns base model and revision of an adapter's folder; None for a whole model's.

    Raises:
        PolicyError: The adapter's configuration is damaged, or the folder also has a whole model.
    """
    file = folder / ADAPTER_CONFIG
    if not file.is_file():
        return None
    settings = read_json(file)
    base = settings.get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise PolicyError(
            f"{file}: no base model; set base_model_name_or_path to a folder or a hub id"
        )
    whole = _first_there(folder, _WEIGHTS)
    if whole is not None:
        raise PolicyError(
            f"folder '{folder}' contains an adapter ({ADAPTER_CONFIG}) and a whole model ({whole.name}); "
            "remove one of them"
        )
    revision = settings.get("revision")
    if revision is not None and not isinstance(revision, str):
        raise PolicyError(f"{file}: revision is {revision!r:.60}; set it to a commit, or remove it")
    return base, revision


def check_base(folder: Path, base: str) -> None:
    """Checks that an adapter's base is a whole model.

    Args:
        folder: Folder of the adapter.
        base: Result of `resolve_model` for its base.

    Raises:
        PolicyError: The base is an adapter itself.
    """
    if (Path(base) / ADAPTER_CONFIG).is_file():
        raise PolicyError(
            f"{folder / ADAPTER_CONFIG}: the base model '{base}' is itself an adapter; merge it "
            "into its base (PEFT's merge_and_unload), save it, and name the result"
        )


def weight_files(folder: Path) -> list[Path]:
    """Returns the files with the weights of a folder: an index and its shards, or a single file.

    Raises:
        PolicyError: There are none, a shard is missing or outside the folder, or an index is
            damaged.
    """
    if (folder / ADAPTER_CONFIG).is_file():
        return [_required(folder, _ADAPTER_WEIGHTS, "an adapter")]
    if (folder / DOWNLOAD_BASE).is_file():
        return [_inside(folder, read_json(folder / DOWNLOAD_BASE).get("weights"), DOWNLOAD_BASE)]
    first = _required(folder, _WEIGHTS, "a whole model")
    return [first, *_shards(folder, first)] if first.name.endswith(".index.json") else [first]


def tokenizer_files(folder: Path) -> list[Path]:
    """Returns the files that a tokenizer may be read from, sorted by name."""
    return sorted({file for pattern in _TOKENIZER for file in folder.glob(pattern)})


def critic_files(folder: Path) -> list[Path]:
    """Returns the files of a policy's critic: its head, and its separate trunk if it has one."""
    head, trunk = folder / HEAD_FILE, folder / TRUNK_FOLDER
    found = [head] if head.is_file() else []
    return found + ([trunk / CONFIG, *weight_files(trunk)] if trunk.is_dir() else [])


def _required(folder: Path, names: tuple[str, ...], what: str) -> Path:
    found = _first_there(folder, names)
    if found is None:
        raise PolicyError(
            f"folder '{folder}' has no weights ({', '.join(names)}); give the folder of {what}"
        )
    return found


def _first_there(folder: Path, names: tuple[str, ...]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _shards(folder: Path, index: Path) -> list[Path]:
    parts = read_json(index).get("weight_map")
    if not isinstance(parts, dict) or not parts:
        raise PolicyError(f"{index}: has no weight_map; restore the file")
    names = {json.dumps(name): name for name in parts.values()}
    return [_inside(folder, names[key], index.name) for key in sorted(names)]


def _inside(folder: Path, name: object, named_by: str) -> Path:
    """Resolves a file named in another one. Links may lead outside (hub cache); names may not."""
    place = folder / named_by
    if not isinstance(name, str) or not name:
        raise PolicyError(f"{place}: names no file of weights; restore the file")
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name:
        raise PolicyError(
            f"{place}: '{name}' is outside the folder; move the file into it and correct the name"
        )
    if not (folder / path).is_file():
        raise PolicyError(
            f"{place}: names '{name}', which is not in the folder; copy or download it again"
        )
    return folder / path
