"""Names of hyperparameters in other libraries, shown by `lmrl-bench algorithm show`.

Names that are the same everywhere (`learning_rate`, `gamma`, `max_grad_norm`) are left out.
"""

from __future__ import annotations

from typing import Final

PEER_NAMES: Final[dict[str, dict[str, str]]] = {
    "aggregation": {"TRL": "loss_type"},
    "autocast": {"TRL": "bf16"},
    "clip_range": {"TRL": "epsilon"},
    "clip_range_high": {"TRL": "epsilon_high"},
    "divide_by_std": {"TRL": "scale_rewards"},
    "entropy_coefficient": {"SB3": "ent_coef"},
    "episodes_per_iteration": {"SB3": "n_steps", "TRL": "generation_batch_size"},
    "epochs": {"SB3": "n_epochs", "TRL": "num_iterations"},
    "group_size": {"TRL": "num_generations"},
    "kl.coefficient": {"TRL": "beta"},
    "kl_loss_coefficient": {"TRL": "beta"},
    "learning_rate_schedule": {"TRL": "lr_scheduler_type"},
    "minibatch_episodes": {"SB3": "batch_size", "TRL": "per_device_train_batch_size"},
    "value_clip_range": {"SB3": "clip_range_vf"},
    "value_coefficient": {"SB3": "vf_coef"},
}
"""Setting to the name in Stable-Baselines3's PPO and TRL's GRPOConfig."""


def peer_names(setting: str) -> str:
    """Returns "SB3 n_epochs, TRL num_iterations"; empty where the name is ours alone, or everybody's."""
    return ", ".join(f"{library} {name}" for library, name in PEER_NAMES.get(setting, {}).items())
