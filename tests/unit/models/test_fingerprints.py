"""Fingerprints cover the files that a load reads: each of these files, and no other one."""

import json
import shutil
import time

import pytest
import torch
from fixtures.checkpoints import edit, write
from safetensors.torch import load_file, save_file

from lmrl_bench.core import digests
from lmrl_bench.core.errors import PolicyError
from lmrl_bench.core.paths import PACKAGE
from lmrl_bench.downloads import download_path
from lmrl_bench.models.fingerprints import model_digests, model_identity
from lmrl_bench.models.names import resolve_model
from lmrl_bench.policies.policy import LanguageModelPolicy


def as_bin(folder, factor=1.0):
    weights = load_file(folder / "model.safetensors")
    torch.save(
        {name: value * factor for name, value in weights.items()}, folder / "pytorch_model.bin"
    )
    (folder / "model.safetensors").unlink()


def as_shards(folder):
    """Two shards under other names, and their index."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    places = {}
    for number, name in enumerate(sorted(weights)):
        places[name] = f"part-{number % 2}.safetensors"
    for shard in set(places.values()):
        part = {name: weights[name] for name in weights if places[name] == shard}
        save_file(part, folder / shard, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


@pytest.fixture
def pair(tmp_path):
    """Two equal folders."""
    write(tmp_path / "a" / "model")
    shutil.copytree(tmp_path / "a" / "model", tmp_path / "b" / "model")
    return tmp_path / "a" / "model", tmp_path / "b" / "model"


def facts(folder):
    found = model_digests(str(folder))
    return found.weights, found.tokenizer, model_identity(str(folder))


def test_pickled_weights_next_to_a_small_critic(pair):
    for factor, folder in zip((1.0, 2.0), pair, strict=True):
        LanguageModelPolicy.load(str(folder), max_prompt_tokens=4, max_completion_tokens=4).save(
            folder
        )
        as_bin(folder, factor)
    first, second = map(facts, pair)
    assert first[0] != second[0]
    assert first[2] != second[2]
    LanguageModelPolicy.load(str(pair[1]), max_prompt_tokens=4, max_completion_tokens=4)


def test_shards_and_their_index_are_read_and_others_are_not(pair):
    for folder in pair:
        as_shards(folder)
    before = facts(pair[0])
    assert before == facts(pair[1])
    for name, content in {
        "other.safetensors": b"x", "pytorch_model.bin": b"x", "README.md": b"x", "notes.bin": b"x",
    }.items():  # fmt: skip
        (pair[1] / name).write_bytes(content)
    assert facts(pair[1]) == before
    assert LanguageModelPolicy.load(str(pair[1]), max_prompt_tokens=4, max_completion_tokens=4)
    weights = load_file(pair[1] / "part-1.safetensors")
    save_file({name: value * 2 for name, value in weights.items()}, pair[1] / "part-1.safetensors")
    assert facts(pair[1])[0] != before[0]
    index = pair[0] / "model.safetensors.index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"metadata": {"a": 1}}))
    assert facts(pair[0])[0] != before[0]


@pytest.mark.parametrize("name", ["../model.safetensors", "/etc/hosts", "x/../../m", 5, ""])
def test_a_shard_outside_the_folder_is_refused(tmp_path, name):
    folder = write(tmp_path / "model")
    shutil.copy(folder / "model.safetensors", tmp_path / "model.safetensors")
    as_shards(folder)
    index = folder / "model.safetensors.index.json"
    places = json.loads(index.read_text())["weight_map"]
    index.write_text(json.dumps({"weight_map": dict.fromkeys(places, name)}))
    for read in (model_digests, model_identity, lambda place: LanguageModelPolicy.load(
        place, max_prompt_tokens=4, max_completion_tokens=4
    )):  # fmt: skip
        with pytest.raises(
            PolicyError, match=r"index\.json: (names no file|'.*' is outside the folder)"
        ):
            read(str(folder))


def test_links_of_a_hub_cache_are_inside(tmp_path):
    folder = write(tmp_path / "snapshots" / "model")
    as_shards(folder)
    before = facts(folder)
    (tmp_path / "blobs").mkdir()
    for file in folder.glob("part-*"):
        shutil.move(file, tmp_path / "blobs" / file.name)
        file.symlink_to(tmp_path / "blobs" / file.name)
    assert facts(folder) == before


@pytest.mark.parametrize(
    "name", ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json",
             "additional_chat_templates/tools.jinja", "sentencepiece.bpe.model"],
)  # fmt: skip
def test_every_file_of_the_tokenizer_counts(pair, name):
    file = pair[1] / name
    file.parent.mkdir(exist_ok=True)
    file.write_text((file.read_text() if file.exists() else "{}") + " ")
    first, second = map(facts, pair)
    assert first[0] == second[0]
    assert first[1] != second[1]
    assert first[2] != second[2]


def test_generation_settings_count_where_they_state_a_fact_of_the_language(pair):
    before = facts(pair[0])
    edit(pair[1] / "generation_config.json", temperature=0.3, top_k=5)
    assert facts(pair[1]) == before
    edit(pair[1] / "generation_config.json", eos_token_id=[1, 9])
    assert facts(pair[1])[0] != before[0]


def test_the_critic_counts(pair):
    for folder, trunk in zip(pair, ("separate", "separate"), strict=True):
        LanguageModelPolicy.load(
            str(folder), value_trunk=trunk, max_prompt_tokens=4, max_completion_tokens=4
        ).save(folder)
    before = facts(pair[0])[0]
    assert before == facts(pair[1])[0]
    edit(pair[1] / "value_trunk" / "config.json", rms_norm_eps=0.1)
    assert facts(pair[1])[0] != before


def test_an_adapter_counts_with_its_base(tmp_path):
    pytest.importorskip("peft")
    from fixtures.checkpoints import LINEAR, _adapter

    place = _adapter("LoraConfig", **LINEAR)(tmp_path)
    first = facts(place)
    edit(tmp_path / "base" / "config.json", rms_norm_eps=0.1)
    second = facts(place)
    assert first[0] != second[0]
    edit(place / "adapter_config.json", lora_alpha=99)
    assert facts(place)[0] not in (first[0], second[0])
    for file in place.glob("tokenizer*"):
        file.unlink()
    assert model_digests(str(place)).tokenizer == model_digests(str(tmp_path / "base")).tokenizer
    shutil.copy(tmp_path / "base" / "model.safetensors", place)
    with pytest.raises(PolicyError, match=r"contains an adapter .* and a whole model"):
        model_digests(str(place))
    (place / "model.safetensors").unlink()
    shutil.copy(place / "adapter_config.json", tmp_path / "base")
    with pytest.raises(PolicyError, match="is itself an adapter"):
        model_digests(str(place))


def test_a_file_is_hashed_once_while_it_stays_as_it_is(tmp_path, monkeypatch):
    folder = write(tmp_path / "model")
    time.sleep(0.1)  # a file that was written in the last tick of the clock is not remembered
    hashed = []
    own = digests.file_sha256
    monkeypatch.setattr(digests, "file_sha256", lambda file: hashed.append(file.name) or own(file))
    first = facts(folder)
    count = len(hashed)
    assert facts(folder) == first
    assert len(hashed) == count
    edit(folder / "config.json", note="another")
    time.sleep(0.1)
    assert facts(folder) != first
    assert hashed[count:] == ["config.json"]


COMMITTED = {
    "nano-causal": "nano-causal@8131e6842cd4",
    "minilm": "minilm-0.1.0@4395b93aa25d",
    "reward": "reward@fb4a9a70d5e5",
    "judge": "judge@3e28ac65843c",
}


@pytest.mark.parametrize("name", COMMITTED)
def test_identities_in_committed_records_hold(name):
    if name == "minilm":
        resolved = str(download_path(name))
    elif name in ("reward", "judge"):
        resolved = str(PACKAGE.parent / "tasks" / "imdb-continuation" / "models" / name)
    else:
        resolved = resolve_model(name)
    assert model_identity(resolved) == COMMITTED[name]


@pytest.mark.parametrize(
    "name", ["tokenizer_config.json", "tokenizer.json", "chat_template.jinja", "vocab.json"]
)
def test_a_folder_in_the_place_of_a_file_is_named(tmp_path, name):
    folder = write(tmp_path / "model")
    (folder / name).unlink(missing_ok=True)
    (folder / name).mkdir()
    with pytest.raises(PolicyError, match=f"{name}: cannot be read"):
        model_digests(str(folder))
