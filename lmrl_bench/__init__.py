"""Compare reinforcement-learning algorithms for language models.

Each command of `lmrl-bench` is one call of this package:

    import lmrl_bench

    record = lmrl_bench.run("docs-en-de", "ppo", config={"budget": {"tokens": 2000}})
    lmrl_bench.run_leaderboard("quickstart", jobs=2)

Importing the package loads neither torch nor transformers: a call imports what it needs when it is looked up.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmrl_bench.api.catalog import describe_algorithm as describe_algorithm
    from lmrl_bench.api.catalog import describe_metric as describe_metric
    from lmrl_bench.api.catalog import describe_reward as describe_reward
    from lmrl_bench.api.catalog import install_downloads as install_downloads
    from lmrl_bench.api.catalog import lint_task as lint_task
    from lmrl_bench.api.catalog import list_algorithms as list_algorithms
    from lmrl_bench.api.catalog import list_downloads as list_downloads
    from lmrl_bench.api.catalog import list_metrics as list_metrics
    from lmrl_bench.api.catalog import list_rewards as list_rewards
    from lmrl_bench.api.catalog import list_settings as list_settings
    from lmrl_bench.api.catalog import list_tasks as list_tasks
    from lmrl_bench.api.catalog import new_task as new_task
    from lmrl_bench.api.catalog import preview_task as preview_task
    from lmrl_bench.api.doctor import doctor as doctor
    from lmrl_bench.api.grids import plan_leaderboard as plan_leaderboard
    from lmrl_bench.api.grids import plan_tuning as plan_tuning
    from lmrl_bench.api.grids import run_leaderboard as run_leaderboard
    from lmrl_bench.api.grids import tune_leaderboard as tune_leaderboard
    from lmrl_bench.api.leaderboards import build_leaderboard as build_leaderboard
    from lmrl_bench.api.leaderboards import check_leaderboard as check_leaderboard
    from lmrl_bench.api.leaderboards import export_leaderboard as export_leaderboard
    from lmrl_bench.api.leaderboards import leaderboard_power as leaderboard_power
    from lmrl_bench.api.leaderboards import leaderboard_stats as leaderboard_stats
    from lmrl_bench.api.leaderboards import leaderboard_table as leaderboard_table
    from lmrl_bench.api.leaderboards import list_leaderboards as list_leaderboards
    from lmrl_bench.api.leaderboards import load_leaderboard as load_leaderboard
    from lmrl_bench.api.results import compare_runs as compare_runs
    from lmrl_bench.api.results import load_completions as load_completions
    from lmrl_bench.api.results import load_run as load_run
    from lmrl_bench.api.runs import plan_run as plan_run
    from lmrl_bench.api.runs import run as run
    from lmrl_bench.api.verification import bounds_table as bounds_table
    from lmrl_bench.api.verification import rescore as rescore
    from lmrl_bench.api.verification import retrain as retrain
    from lmrl_bench.api.verification import validate as validate
    from lmrl_bench.config.run import RunConfig as RunConfig
    from lmrl_bench.metrics import make_metric as make_metric
    from lmrl_bench.records.listing import list_runs as list_runs
    from lmrl_bench.rewards import make_reward as make_reward
    from lmrl_bench.runs.policies import evaluate as evaluate
    from lmrl_bench.runs.policies import export_policy as export_policy
    from lmrl_bench.runs.policies import load_policy as load_policy
    from lmrl_bench.runs.policies import sample as sample
    from lmrl_bench.tasks.catalog import load_task as load_task

__version__ = "0.1.0"

_CALLS = {
    "RunConfig": "lmrl_bench.config.run:RunConfig",
    "bounds_table": "lmrl_bench.api.verification:bounds_table",
    "build_leaderboard": "lmrl_bench.api.leaderboards:build_leaderboard",
    "check_leaderboard": "lmrl_bench.api.leaderboards:check_leaderboard",
    "compare_runs": "lmrl_bench.api.results:compare_runs",
    "describe_algorithm": "lmrl_bench.api.catalog:describe_algorithm",
    "describe_metric": "lmrl_bench.api.catalog:describe_metric",
    "describe_reward": "lmrl_bench.api.catalog:describe_reward",
    "doctor": "lmrl_bench.api.doctor:doctor",
    "evaluate": "lmrl_bench.runs.policies:evaluate",
    "export_leaderboard": "lmrl_bench.api.leaderboards:export_leaderboard",
    "export_policy": "lmrl_bench.runs.policies:export_policy",
    "install_downloads": "lmrl_bench.api.catalog:install_downloads",
    "leaderboard_power": "lmrl_bench.api.leaderboards:leaderboard_power",
    "leaderboard_stats": "lmrl_bench.api.leaderboards:leaderboard_stats",
    "leaderboard_table": "lmrl_bench.api.leaderboards:leaderboard_table",
    "lint_task": "lmrl_bench.api.catalog:lint_task",
    "list_algorithms": "lmrl_bench.api.catalog:list_algorithms",
    "list_downloads": "lmrl_bench.api.catalog:list_downloads",
    "list_leaderboards": "lmrl_bench.api.leaderboards:list_leaderboards",
    "list_metrics": "lmrl_bench.api.catalog:list_metrics",
    "list_rewards": "lmrl_bench.api.catalog:list_rewards",
    "list_runs": "lmrl_bench.records.listing:list_runs",
    "list_settings": "lmrl_bench.api.catalog:list_settings",
    "list_tasks": "lmrl_bench.api.catalog:list_tasks",
    "load_completions": "lmrl_bench.api.results:load_completions",
    "load_leaderboard": "lmrl_bench.api.leaderboards:load_leaderboard",
    "load_policy": "lmrl_bench.runs.policies:load_policy",
    "load_run": "lmrl_bench.api.results:load_run",
    "load_task": "lmrl_bench.tasks.catalog:load_task",
    "make_metric": "lmrl_bench.metrics:make_metric",
    "make_reward": "lmrl_bench.rewards:make_reward",
    "new_task": "lmrl_bench.api.catalog:new_task",
    "plan_leaderboard": "lmrl_bench.api.grids:plan_leaderboard",
    "plan_run": "lmrl_bench.api.runs:plan_run",
    "plan_tuning": "lmrl_bench.api.grids:plan_tuning",
    "preview_task": "lmrl_bench.api.catalog:preview_task",
    "rescore": "lmrl_bench.api.verification:rescore",
    "retrain": "lmrl_bench.api.verification:retrain",
    "run": "lmrl_bench.api.runs:run",
    "run_leaderboard": "lmrl_bench.api.grids:run_leaderboard",
    "sample": "lmrl_bench.runs.policies:sample",
    "tune_leaderboard": "lmrl_bench.api.grids:tune_leaderboard",
    "validate": "lmrl_bench.api.verification:validate",
}
"""Name to `module:attribute`; the imports above say the same to type checkers, and a test compares them."""

__all__ = ["__version__", *_CALLS]


def __getattr__(name: str) -> Any:
    if name not in _CALLS:
        raise AttributeError(f"module 'lmrl_bench' has no attribute '{name}'")
    module, _, attribute = _CALLS[name].partition(":")
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    # Only what users call: the imports of this file would hide it in a completion list.
    return sorted(__all__)
