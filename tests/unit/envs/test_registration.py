"""Ids in Gymnasium's registry: both views of every task of the catalog, made from names only."""

from __future__ import annotations

import subprocess
import sys

import gymnasium
import pytest
from fixtures.toy import toy_model_folder, toy_task_folder

from lmrl_bench.envs import register_task, register_tasks
from lmrl_bench.envs.completion_env import CompletionEnv
from lmrl_bench.envs.token_env import TextGenerationEnv
from lmrl_bench.envs.vector import CompletionVectorEnv, TextGenerationVectorEnv

IDS = {
    "LMRL/toy-v3": (TextGenerationEnv, TextGenerationVectorEnv),
    "LMRL/toy-completion-v3": (CompletionEnv, CompletionVectorEnv),
}


@pytest.fixture
def toy_ids(tmp_path, monkeypatch):
    toy_task_folder(tmp_path / "tasks", version=3)
    monkeypatch.setenv("LMRL_BENCH_TASKS", str(tmp_path / "tasks"))
    new = register_tasks()
    yield new
    for identifier in new:
        del gymnasium.registry[identifier]


def test_made_from_names(toy_ids, tmp_path):
    model = str(toy_model_folder(tmp_path / "model"))
    assert set(IDS) <= set(toy_ids)
    assert register_tasks() == [], "a second call finds nothing new"
    for identifier, (single, vector) in IDS.items():
        env = gymnasium.make(f"lmrl_bench.envs:{identifier}", tokenizer=model)
        assert type(env.unwrapped) is single
        observation, info = env.reset(seed=0)
        assert observation in env.observation_space
        assert info["sample_id"] in {sample.id for sample in env.unwrapped.core.samples}
        envs = gymnasium.make_vec(identifier, num_envs=2, tokenizer=model, split="test")
        assert type(envs) is vector
        assert len(envs.core.samples) == 6


def test_default_tokenizer_is_the_default_policys(tmp_path):
    model = toy_model_folder(tmp_path / "model")
    policies = {"default": str(model), "kinds": ["causal"]}
    env = TextGenerationEnv(str(toy_task_folder(tmp_path, policy=policies)))
    assert env.action_space.n == 45


def test_broken_task_is_left_out_loudly(tmp_path, monkeypatch):
    folder = toy_task_folder(tmp_path)
    (folder / "task.yaml").write_text("schema: 1\nname: toy\n")
    monkeypatch.setenv("LMRL_BENCH_TASKS", str(tmp_path))
    with pytest.warns(UserWarning, match=r"task 'toy' is not registered: .*task\.yaml"):
        assert not any("toy" in name for name in register_tasks())


def test_unusable_catalog_does_not_break_the_import(monkeypatch):
    monkeypatch.setenv("LMRL_BENCH_TASKS", "/no/such/folder")
    with pytest.warns(UserWarning, match="LMRL_BENCH_TASKS"):
        assert register_tasks() == []


def test_register_task_names_both_views():
    new = register_task("some-task", 2)
    try:
        assert new == ["LMRL/some-task-v2", "LMRL/some-task-completion-v2"]
    finally:
        for identifier in new:
            del gymnasium.registry[identifier]


def test_import_loads_no_torch_and_no_data():
    """Registering must stay cheap: whoever lists ids should not wait for torch."""
    code = (
        "import sys, lmrl_bench.envs\n"
        "assert not {'torch', 'transformers', 'pyarrow'} & set(sys.modules), 'heavy import'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
