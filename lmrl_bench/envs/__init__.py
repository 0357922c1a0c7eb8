"""Environments: the batched core and its two Gymnasium views.

Importing this package registers `LMRL/<task>-v<version>` and `LMRL/<task>-completion-v<version>`:

    gymnasium.make("lmrl_bench.envs:LMRL/docs-en-de-v1")
"""

from lmrl_bench.envs.registration import register_task, register_tasks

__all__ = ["register_task", "register_tasks"]

register_tasks()
