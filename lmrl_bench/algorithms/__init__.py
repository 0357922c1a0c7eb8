"""The algorithms by name; importing this package loads no torch. See README.md for how to add one.

`from lmrl_bench.algorithms import PPO` imports the class, and torch with it, only then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lmrl_bench.core.registry import Registry

if TYPE_CHECKING:
    from lmrl_bench.algorithms.interface import Algorithm

ALGORITHMS: Registry[type[Algorithm]] = Registry(
    "algorithm",
    {
        "a2c": "lmrl_bench.algorithms.a2c:A2C",
        "best-of-n": "lmrl_bench.algorithms.best_of_n:BestOfN",
        "cispo": "lmrl_bench.algorithms.cispo:CISPO",
        "dapo": "lmrl_bench.algorithms.dapo:DAPO",
        "dr-grpo": "lmrl_bench.algorithms.dr_grpo:DrGRPO",
        "grpo": "lmrl_bench.algorithms.grpo:GRPO",
        "gspo": "lmrl_bench.algorithms.gspo:GSPO",
        "majority-of-n": "lmrl_bench.algorithms.majority_of_n:MajorityOfN",
        "nlpo": "lmrl_bench.algorithms.nlpo:NLPO",
        "nlpo-rl4lms": "lmrl_bench.algorithms.nlpo_rl4lms:NLPORL4LMs",
        "no-training": "lmrl_bench.algorithms.no_training:NoTraining",
        "ppo": "lmrl_bench.algorithms.ppo:PPO",
        "raft": "lmrl_bench.algorithms.raft:RAFT",
        "reinforce": "lmrl_bench.algorithms.reinforce:Reinforce",
        "reinforce-plus-plus": "lmrl_bench.algorithms.reinforce_plus_plus:ReinforcePlusPlus",
        "rloo": "lmrl_bench.algorithms.rloo:RLOO",
        "sft": "lmrl_bench.algorithms.sft:SFT",
        "top-p": "lmrl_bench.algorithms.top_p:TopP",
        "trivial": "lmrl_bench.algorithms.trivial:Trivial",
        "trpo": "lmrl_bench.algorithms.trpo:TRPO",
    },
    group="lmrl_bench.algorithms",
)

_CLASSES = {ALGORITHMS.class_name(name): name for name in ALGORITHMS.builtin()}

__all__ = ["ALGORITHMS", *sorted(_CLASSES)]


def __getattr__(name: str) -> Any:
    if name in _CLASSES:
        return ALGORITHMS.get(_CLASSES[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
