"""Base policies of the verifiable tasks: their examples, their log and card, and the shipped ones."""

import json
from collections import Counter
from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

from lmrl_bench.data.sample import Sample
from lmrl_bench.data.tokenization import TextCodec
from lmrl_bench.models.names import SHIPPED
from lmrl_bench.pretraining import skill_policies
from lmrl_bench.pretraining.batches import IGNORED_LABEL
from lmrl_bench.pretraining.export import write_policy
from lmrl_bench.pretraining.recipes import SKILL_POLICIES, OptimizerRecipe
from lmrl_bench.pretraining.skill_policies import answer_shares, prepare_skills
from lmrl_bench.pretraining.skills import FAMILIES, SKILL_TASKS, held_out_texts
from lmrl_bench.pretraining.train import train
from lmrl_bench.tasks.catalog import load_task

NAMES = sorted(SKILL_POLICIES)
OPTIMIZER = OptimizerRecipe(n_steps=4, peak_learning_rate=5e-3, warmup_steps=1)


def tiny(name):
    recipe = replace(
        SKILL_POLICIES[name], n_layers=1, hidden_size=16, feed_forward_size=16, n_heads=2
    )
    return prepare_skills(replace(recipe, optimizer=OPTIMIZER), name)


def examples(run, steps):
    """Returns the prompts and answers of training batches, read back from the tensors."""
    found = []
    for step in range(steps):
        batch = run.source.batch(step)
        for ids, labels in zip(batch["input_ids"], batch["labels"], strict=True):
            prompt = ids if run.model.config.is_encoder_decoder else ids[labels == IGNORED_LABEL]
            text = run.tokenizer.decode(prompt, skip_special_tokens=True)
            answer = labels[labels != IGNORED_LABEL]
            assert int(answer[-1]) == run.tokenizer.eos_token_id
            found.append((text, run.tokenizer.decode(answer[:-1])))
    return found


@pytest.mark.parametrize("name", NAMES)
def test_examples_are_right_mixed_and_never_held_out(name):
    run = tiny(name)
    family = FAMILIES[SKILL_POLICIES[name].family]
    held_out = held_out_texts(SKILL_POLICIES[name].family)
    counts = Counter()
    for prompt, answer in examples(run, 30):
        assert prompt.endswith("=")
        assert prompt[:-1] not in held_out
        skill_of = {skill.answer(prompt[:-1]): skill.name for skill in family.skills}
        assert answer in skill_of
        if len(skill_of) == len(family.skills):  # otherwise the answer does not tell the skill
            counts[skill_of[answer]] += 1
    assert counts.total() > 500
    for skill in family.skills:
        assert counts[skill.name] / counts.total() == pytest.approx(skill.share, abs=0.06)


@pytest.mark.parametrize("name", NAMES)
def test_held_out_prompts_are_excluded_where_they_would_be_drawn(name, monkeypatch):
    """Random strings of nine letters meet no held-out one, so the exclusion needs a drawn one."""
    drawn = {prompt[:-1] for prompt, _ in examples(tiny(name), 1)}
    excluded = frozenset(sorted(drawn)[:20]) | held_out_texts(SKILL_POLICIES[name].family)
    monkeypatch.setattr(skill_policies, "held_out_texts", lambda *_: excluded)
    assert not {prompt[:-1] for prompt, _ in examples(tiny(name), 1)} & excluded


@pytest.mark.parametrize("name", ["nano-digits", "nano-letters-seq2seq"])
def test_a_run_writes_folder_log_and_card(name, tmp_path):
    run = tiny(name)
    progress = train(run.model, run.source, run.optimizer, tmp_path / "checkpoint.pt")
    write_policy(run, name, {}, progress, tmp_path / "out")
    log = json.loads((tmp_path / "out" / "training.json").read_text())
    skills = {skill.name for skill in FAMILIES[SKILL_POLICIES[name].family].skills}
    assert set(log["validation"]) == skills
    assert set(log["answers"]["greedy"]) == {*skills, "no skill"}
    card = (tmp_path / "out" / "README.md").read_text()
    assert "**The base has seen the wanted skill**" in card
    assert f"lmrl_bench.pretraining skills {name} " in card
    first = next(iter(log["answers"]["sampled"].values()))
    assert f"| sampled | {first:.3f} |" in card


def test_shares_of_answers_count_what_a_policy_writes():
    """A policy that always writes the same answers has known shares."""

    class Stub:
        class config:  # noqa: N801
            is_encoder_decoder = False

        def generate(self, input_ids, **_):
            answers = tokenizer(["abc", "cba", "bca", "x"], return_tensors="pt", padding=True)
            return torch.cat([input_ids, answers["input_ids"]], dim=1)

    tokenizer = AutoTokenizer.from_pretrained(SHIPPED / "nano-letters")
    found = answer_shares(Stub(), tokenizer, FAMILIES["letters"], ["bca"] * 4)
    expected = {"copy": 0.25, "reverse": 0.0, "descending": 0.25, "ascending": 0.25}
    assert found == {
        "sampled": expected | {"no skill": 0.25},
        "greedy": expected | {"no skill": 0.25},
    }


def loaded(name):
    loader = AutoModelForSeq2SeqLM if SKILL_POLICIES[name].seq2seq else AutoModelForCausalLM
    model = loader.from_pretrained(SHIPPED / name)
    return model, AutoTokenizer.from_pretrained(SHIPPED / name)


@pytest.mark.parametrize("name", NAMES)
def test_the_shipped_base_has_all_skills_and_none_reliably(name):
    """Room for RL: the wanted answer is among the sampled ones, and greedy decoding does not find it."""
    model, tokenizer = loaded(name)
    recipe = SKILL_POLICIES[name]
    task = next(key for key, task in SKILL_TASKS.items() if task.family == recipe.family)
    texts = [sample.prompt[:-1] for sample in load_task(task).samples("validation")[:256]]
    shares = answer_shares(model, tokenizer, FAMILIES[recipe.family], texts)
    wanted = SKILL_TASKS[task].skill
    assert 0.03 < shares["sampled"][wanted] < 0.2
    assert shares["greedy"][wanted] < 0.4
    for skill in FAMILIES[recipe.family].skills:
        assert shares["sampled"][skill.name] > 0.03


@pytest.mark.parametrize("name", NAMES)
def test_the_log_of_a_shipped_base_is_that_of_its_recipe_and_excludes_the_shipped_prompts(name):
    log = json.loads((SHIPPED / name / "training.json").read_text())
    recipe = SKILL_POLICIES[name]
    assert (
        log["hyperparameters"]["optimizer"]["n_steps"] == recipe.optimizer.n_steps == log["steps"]
    )
    assert log["hyperparameters"]["family"] == recipe.family
    facts = log["data"][recipe.family]
    assert facts["excluded_prompts"] == len(held_out_texts(recipe.family))
    for key, digest in facts["excluded_sha256"].items():
        task, file = key.split("/")
        assert getattr(load_task(task).spec.data, file.removesuffix(".jsonl.gz")).sha256 == digest


@pytest.mark.parametrize("name", NAMES)
def test_no_token_is_spent_on_a_separator(name):
    _, tokenizer = loaded(name)
    codec = TextCodec(
        tokenizer,
        max_prompt_tokens=16,
        max_completion_tokens=12,
        kind="seq2seq" if SKILL_POLICIES[name].seq2seq else "causal",
    )
    sample = Sample("0", "cab=", ("abc",), {})
    assert tokenizer.convert_ids_to_tokens(codec.encode_reference(sample)) == [*"abc", "<eos>"]


def test_the_skill_policies_are_small():
    size = sum(file.stat().st_size for name in NAMES for file in (SHIPPED / name).iterdir())
    assert size <= 10_000_000
