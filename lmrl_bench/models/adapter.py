"""Low-rank adapters (LoRA, arXiv 2106.09685) through PEFT, the optional dependency `peft`.

The base model stays frozen, and small matrices added to its linear layers are trained. A new
adapter does not change the output, so a run can start from the base model, and the reference policy
is the same model with the adapter disabled: no second copy of the weights is needed.
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
    """Freezes the model and adds a new adapter, the only part that is trained.

    The first matrix of each pair is drawn from torch's global random generator, the second is zero.

    Raises:
        PolicyError: PEFT is not installed, or the model lacks the target layers.
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
            warnings.filterwarnings("ignore", "fan_in_fan_out")  # PEFT corrects it for GPT-2 itself
            model.add_adapter(lora)
    except ValueError as error:
        raise PolicyError(
            f"policy.adapter does not fit {type(model).__name__}: {reason_of(error)}; name its linear layers in "
            "policy.adapter.targets, for example [q_proj, v_proj]"
        ) from error


def has_adapter(model: PreTrainedModel) -> bool:
    """Returns whether the model has an adapter."""
    return bool(getattr(model, "_hf_peft_config_loaded", False))


@contextmanager
def without_adapter(model: PreTrainedModel) -> Iterator[None]:
    """Disables the adapter inside the context, which leaves the base model."""
    model.disable_adapters()
    try:
        yield
    finally:
        model.enable_adapters()
