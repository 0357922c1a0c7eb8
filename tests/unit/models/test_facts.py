"""Every field of the library's settings is on a list: used, irrelevant or refused, with the reason."""

import pytest
from transformers import GenerationConfig, PreTrainedConfig

from lmrl_bench.models.facts import CONFIG_FACTS, GENERATION, Use, refused_generation_fact


def test_every_field_of_the_generation_settings_has_a_decision():
    assert set(vars(GenerationConfig())) - set(GENERATION) == set()


def test_every_field_that_all_configurations_share_has_a_decision():
    fields = {name for name in PreTrainedConfig().to_dict() if not name.startswith("_")}
    assert fields - set(CONFIG_FACTS) == set()


@pytest.mark.parametrize("fact", [*GENERATION.values(), *CONFIG_FACTS.values()])
def test_a_decision_has_a_reason(fact):
    assert len(fact.reason.split()) >= 3


@pytest.mark.parametrize(
    "name", [name for name, fact in GENERATION.items() if fact.use is Use.REFUSED]
)
def test_a_refused_field_is_refused_when_it_is_set(name):
    assert refused_generation_fact({name: None}) is None
    found = refused_generation_fact({name: [[3]]})
    assert found is not None
    assert found[0] == name


def test_nothing_else_is_refused():
    settings = {name: 1 for name, fact in GENERATION.items() if fact.use is not Use.REFUSED}
    assert refused_generation_fact(settings) is None
    assert refused_generation_fact({"eos_token_id": [1, 2]}) is None
    for wrong in ("</s>", [1, "a"], True, 1.5):
        assert refused_generation_fact({"eos_token_id": wrong}) is not None
    assert refused_generation_fact({"forced_bos_token_id": 0}) is None
    assert refused_generation_fact({"forced_bos_token_id": 0}, encoder_decoder=False) is not None


def test_a_list_that_forbids_control_tokens_only_is_honored():
    control = frozenset({0, 1})
    for allowed in ({"bad_words_ids": [[0]]}, {"suppress_tokens": [0, 1]}, {"bad_words_ids": []}):
        assert refused_generation_fact(allowed, control_ids=control) is None
    for refused in ([[0], [5]], [[0, 1]], [["0"]], [[]], [0.0]):
        found = refused_generation_fact({"bad_words_ids": refused}, control_ids=control)
        assert found is not None
        assert found[0] == "bad_words_ids"
