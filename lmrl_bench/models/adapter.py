"""Low-rank adapters (LoRA, arXiv 2106.09685) through PEFT, the extra `peft`.

The base model is frozen and small matrices beside its linear layers learn. A new adapter changes
nothing until it has learnt, so the base model is the start of a run: its reference is the same
model with the adapter switched off, and no second copy of the weights is needed.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from transformers import PreTrainedModel

from lmrl_bench.config.run import AdapterConfig
from lmrl_bench.core.errors import PolicyError
from lmrl_bench.core.wording import reason_of
from lmrl_bench.models.adapters import require_peft


def add_adapter(model: PreTrainedModel, config: AdapterConfig) -> None:
    """Freezes the model and adds a new adapter, which is all that learns.

    The first matrix of each pair is drawn from torch's global random numbers, the second is zero.

    Raises:
        PolicyError: PEFT is not installed, or the model has no such layers.
    """
    require_peft()
    from peft import LoraConfig

    lora = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        target_modules=config.targets if config.targets is None else list(config.targets),
        task_type="SEQ_2_SEQ_LM" if model.config.is_encoder_decoder else "CAUSAL_LM",
        lora_dropout=0.0,
    )
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "fan_in_fan_out")  # PEFT sees GPT-2's layers itself
            model.add_adapter(lora)
    except ValueError as error:
        raise PolicyError(
            f"policy.adapter does not fit {type(model).__name__}: {reason_of(error)}; name its linear layers in "
            "policy.adapter.targets, for example [q_proj, v_proj]"
        ) from error


def has_adapter(model: PreTrainedModel) -> bool:
    """True if the model carries an adapter."""
    return bool(getattr(model, "_hf_peft_config_loaded", False))


@contextmanager
def without_adapter(model: PreTrainedModel) -> Iterator[None]:
    """Inside, the model is its base model."""
    model.disable_adapters()
    try:
        yield
    finally:
        model.enable_adapters()
