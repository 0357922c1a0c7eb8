"""Loads PEFT adapters onto their base model, completely or not at all.

It uses PEFT's own loader (that of Transformers drops the magnitudes of DoRA), and then lets PEFT
write the state it has read, which must equal the file.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import warnings
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from lmrl_bench.core.errors import PolicyError
from lmrl_bench.models.border import reported
from lmrl_bench.models.files import ADAPTER_CONFIG, read_json
from lmrl_bench.models.stored import check_finite

_NAME: Final = "default"
_PREFIX: Final = "base_model.model."
_MERGE: Final = "merge the adapter into its base (PEFT's merge_and_unload), save the whole model, and give its folder"


def require_peft() -> None:
    """Checks that adapters can be used.

    Raises:
        PolicyError: PEFT is not installed.
    """
    if importlib.util.find_spec("peft") is None:
        raise PolicyError(
            "adapters require PEFT, which is not installed; run: pip install 'lmrl-bench[peft]'"
        )


def put_adapter(model: PreTrainedModel, folder: Path) -> None:
    """Loads a saved adapter onto its base model, trainable and in evaluation mode.

    Raises:
        PolicyError: PEFT is not installed or cannot read the whole adapter, or the adapter adds
            tokens to the prompt or changes the output layer, which policies do not support.
    """
    require_peft()
    what = f"the adapter '{folder}'"
    settings = read_json(folder / ADAPTER_CONFIG)
    kind = str(settings.get("peft_type"))
    from peft import PeftConfig, inject_adapter_in_model, set_peft_model_state_dict
    from peft.utils.save_and_load import load_peft_weights

    with reported(what, PolicyError, folder), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = PeftConfig.from_pretrained(str(folder))
        if config.is_prompt_learning or config.is_adaption_prompt:
            raise PolicyError(
                f"{what} is of the type {kind}, which adds trained positions to every prompt, but policies "
                "cannot change their prompts; choose an adapter that changes the model's layers, such as LoRA"
            )
        _check_settings(settings, config, what)
        config.inference_mode = False
        stored = load_peft_weights(str(folder), device="cpu")
        state = {name.removeprefix(_PREFIX): value for name, value in stored.items()}
        check_finite(state, what, PolicyError)
        inject_adapter_in_model(config, model, _NAME)
        model._hf_peft_config_loaded = True
        _check_output_layer(model, what)
        set_peft_model_state_dict(model, state, _NAME)
    _check_complete(model, state, f"{what} ({kind})")
    model.train(False)


def _check_settings(settings: dict[str, Any], config: Any, what: str) -> None:
    """Rejects settings that PEFT would drop, and bases that it would split at random."""
    known = {field.name for field in dataclasses.fields(config)}
    unknown = sorted(name for name, value in settings.items() if value and name not in known)
    if unknown:
        raise PolicyError(
            f"{what}: {ADAPTER_CONFIG} sets {', '.join(unknown)}, which the installed PEFT does not know and would "
            "ignore; update PEFT, or remove settings that do not affect the adapter's output"
        )
    start = str(settings.get("init_lora_weights"))
    if start.startswith("pissa_niter"):
        raise PolicyError(
            f"{what}: init_lora_weights is {start}, which splits the base at random, so no two loads are equal; "
            "save it with PEFT's path_initial_model_for_weight_conversion, or use 'pissa'"
        )


def _check_output_layer(model: PreTrainedModel, what: str) -> None:
    head = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    if isinstance(head, nn.Linear):
        return
    name = next((name for name, part in model.named_modules() if part is head), "output layer")
    raise PolicyError(
        f"{what} changes the output layer ({name}, by modules_to_save, target_modules or trainable tokens), which "
        f"scoring requires as a single matrix; {_MERGE}"
    )


def _check_complete(model: PreTrainedModel, file: dict[str, Tensor], what: str) -> None:
    """Compares the file with the state that PEFT would write now."""
    from peft import get_peft_model_state_dict

    with reported(what, PolicyError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        written: dict[str, Any] = get_peft_model_state_dict(
            model, adapter_name=_NAME, save_embedding_layers=False
        )
    present = {name.removeprefix(_PREFIX): value for name, value in written.items()}
    missing = sorted(present.keys() - file.keys())
    if missing:
        raise PolicyError(
            f"{what} lacks {len(missing)} of its weights, such as '{missing[0]}'; they would be random. "
            "Save the adapter again"
        )
    present |= {name: value for name, value in model.state_dict().items() if name in file}
    left_over = sorted(file.keys() - present.keys())
    if left_over:
        raise PolicyError(
            f"{what} has {len(left_over)} weights that its model does not use, such as '{left_over[0]}'; "
            f"they would be lost. Check base_model_name_or_path and target_modules in {ADAPTER_CONFIG}, or {_MERGE}"
        )
    other = sorted(name for name, value in file.items() if not _equal(value, present[name]))
    if other:
        raise PolicyError(
            f"{what}: {len(other)} weights differ from the file after loading, such as '{other[0]}'; "
            f"{_MERGE}"
        )


def _equal(stored: Tensor, loaded: Tensor) -> bool:
    same = stored.shape == loaded.shape
    return same and torch.equal(stored.to(loaded), loaded)
