"""Environments: the batched core and its two Gymnasium views.

Start with `rules`, which defines when an episode ends, and `core.EpisodeCore`, which draws prompts
and scores finished episodes. `token_env` (one step is one token) and `completion_env` (one step is
one completion) are single environments, `vector` their vectorized versions, and `sb3` the adapter
for Stable-Baselines3.

Importing this package registers `LMRL/<task>-v<version>` and `LMRL/<task>-completion-v<version>`:

    gymnasium.make("lmrl_bench.envs:LMRL/docs-en-de-v1")
"""

from lmrl_bench.envs.registration import register_task, register_tasks

__all__ = ["register_task", "register_tasks"]

register_tasks()
