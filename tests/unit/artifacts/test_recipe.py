"""Any kind of artifact is named by its inputs, built once, and found again."""

from __future__ import annotations

import pickle

import pytest

from lmrl_bench.artifacts import ARTIFACT_KINDS
from lmrl_bench.artifacts.recipe import Recipe
from lmrl_bench.core.atomic import replace_folder
from lmrl_bench.core.errors import ConfigError
from lmrl_bench.core.events import Event


class Dictionaries:
    """A kind that has nothing to do with policies: a folder with a list of words."""

    def __init__(self):
        self.built = []

    def find(self, recipe):
        return recipe.folder if (recipe.folder / "words").exists() else None

    def build(self, recipe, progress):
        if self.find(recipe) is None:
            progress(Event(recipe.name, "started"))
            self.built.append(recipe.name)
            replace_folder(recipe.folder, lambda place: (place / "words").write_text(recipe.source))
        return recipe.folder


@pytest.fixture
def kind(monkeypatch, tmp_path):
    monkeypatch.setenv("LMRL_BENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(ARTIFACT_KINDS, "_objects", {})
    kind = Dictionaries()
    ARTIFACT_KINDS.add("dictionary", kind)
    return kind


def recipe(**inputs):
    return Recipe("dictionary", "short-words", inputs or {"corpus": "ab" * 32, "length": 3}, "a b")


def test_it_is_built_once_and_found_again(kind):
    events = []
    assert recipe().find() is None
    place = recipe().build(events.append)
    assert (place / "words").read_text() == "a b"
    assert recipe().build(events.append) == recipe().find() == place
    assert kind.built == ["short-words"]
    assert [event.kind for event in events] == ["started"]


def test_other_inputs_are_another_artifact(kind):
    first, other = recipe(), recipe(corpus="ab" * 32, length=4)
    assert first.folder != other.folder
    assert first.folder.name.startswith("short-words-")
    assert first.folder.parent.name == "dictionary"
    assert first == recipe()
    assert first != other
    assert len({first, recipe(), other}) == 2
    assert (
        Recipe("dictionary", "short-words", first.inputs, "c d") == first
    )  # the source is not an input


def test_it_travels_to_another_process(kind):
    copy = pickle.loads(pickle.dumps(recipe()))
    assert copy == recipe()
    assert copy.fingerprint == recipe().fingerprint
    assert copy.build().is_dir()


def test_an_unknown_kind_is_named(kind):
    with pytest.raises(ConfigError, match="unknown artifact kind 'dictionery'; did you mean"):
        Recipe("dictionery", "x", {}).find()
