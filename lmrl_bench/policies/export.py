"""Exports trained policies as ordinary Hugging Face folders, for use without this package.

A policy trained with an adapter stores only the adapter and the location of its base model. Merged,
it becomes a full model that `from_pretrained` loads on any machine.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lmrl_bench.core.atomic import replace_folder
from lmrl_bench.core.errors import PolicyError
from lmrl_bench.models.border import quiet, reported
from lmrl_bench.models.files import ADAPTER_CONFIG, CONFIG, HEAD_FILE, adapter_base
from lmrl_bench.models.names import is_hub_id, resolve_model
from lmrl_bench.models.storage import read_model


def export_policy(source: str | Path, target: Path, *, merge: bool = False) -> None:
    """Writes a policy as an ordinary Hugging Face folder: model and tokenizer, without the critic.

    Args:
        source: Folder of a policy.
        target: Folder to write; must not exist or be empty.
        merge: Merge an adapter into its base model.

    Raises:
        PolicyError: `target` is not empty; the policy cannot be read; there is no adapter to merge;
            or it is an unmerged adapter whose base model is a local folder.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise PolicyError(f"{target}: exists and is not empty; name another folder with --out")
    folder = Path(resolve_model(str(source)))
    base = adapter_base(folder)
    if base is None and merge:
        raise PolicyError(f"{folder}: has no adapter to merge; omit --merge-adapter")
    if base is not None and not merge:
        _copy_adapter(folder, base[0], target)
        return
    model, tokenizer = _whole_model(str(folder))
    replace_folder(target, lambda place: _write(place, model, tokenizer))


def merge_adapter(source: Path, target: Path) -> None:
    """Writes the merged model of an adapter folder, with the critic, replacing `target`."""
    model, tokenizer = _whole_model(str(source))

    def write(place: Path) -> None:
        _write(place, model, tokenizer)
        if (source / HEAD_FILE).is_file():
            shutil.copy(source / HEAD_FILE, place / HEAD_FILE)

    replace_folder(target, write)


def _write(place: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    with quiet():
        model.save_pretrained(place)
    tokenizer.save_pretrained(place)


def _whole_model(name: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Loads a model; an adapter is checked as usual and then merged by PEFT."""
    model, tokenizer, folder = read_model(name)
    base = None if folder is None else adapter_base(folder)
    if folder is None or base is None:
        return model, tokenizer
    from peft import PeftModel

    below, _, _ = read_model(*base)
    with quiet(), reported(f"the adapter '{folder}'", PolicyError, folder):
        merged = PeftModel.from_pretrained(below, str(folder)).merge_and_unload()
    return merged, tokenizer


def _copy_adapter(folder: Path, base: str, target: Path) -> None:
    """Copies the files of an adapter, without config.json, which would promise full weights.

    Raises:
        PolicyError: Others cannot load the base model by its name.
    """
    if Path(base).is_dir() or not is_hub_id(base):
        raise PolicyError(
            f"{folder}: the base model '{Path(base).name}' of this adapter is a local folder, so the adapter "
            "cannot be loaded elsewhere; write a whole model with --merge-adapter"
        )
    left_out = (CONFIG, HEAD_FILE)

    def write(place: Path) -> None:
        for file in sorted(folder.iterdir()):
            if file.is_file() and file.name not in left_out:
                shutil.copy(file, place / file.name)
        assert (place / ADAPTER_CONFIG).is_file()

    replace_folder(target, write)
