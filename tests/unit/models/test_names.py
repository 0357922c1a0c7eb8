"""The four kinds of model names, and the message for a name that is none of them."""

import pytest

from lmrl_bench.core.errors import DownloadError, PolicyError
from lmrl_bench.models import names
from lmrl_bench.models.fingerprints import model_identity
from lmrl_bench.models.names import resolve_model, shipped_policies


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    folder = tmp_path / "shipped" / "nano-test"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (tmp_path / "shipped" / "no-model").mkdir()
    monkeypatch.setattr(names, "SHIPPED", tmp_path / "shipped")
    return folder


def test_shipped_policy_comes_first(shipped, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nano-test").mkdir()
    assert shipped_policies() == ["nano-test"]
    assert resolve_model("nano-test") == str(shipped)


def test_download_that_is_not_installed_names_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setenv("LMRL_BENCH_CACHE", str(tmp_path))
    with pytest.raises(DownloadError, match="lmrl-bench download install minilm"):
        resolve_model("minilm")


def test_folder(shipped, tmp_path, monkeypatch):
    assert resolve_model(str(shipped)) == str(shipped.resolve())
    monkeypatch.chdir(shipped.parent)
    assert resolve_model("./nano-test") == str(shipped.resolve())
    with pytest.raises(PolicyError, match=r"has no config\.json"):
        resolve_model(str(tmp_path))


@pytest.mark.parametrize("name", ["nano-tset", "./nowhere", "/no/where", "a/b/c", "../x", "~/x"])
def test_none_of_the_four(shipped, name, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")  # whatever the current folder holds
    with pytest.raises(PolicyError, match=r"no model .*nano-test.*a download \(.*minilm.*a hub id"):
        resolve_model(name)


def test_a_slip_is_guessed(shipped):
    with pytest.raises(PolicyError, match="did you mean 'nano-test'"):
        resolve_model("nano-tset")


def test_hub_id_offline_is_an_error(shipped):
    with pytest.raises(PolicyError, match="not in the hub cache"):
        resolve_model("some-owner/some-model")


def test_hub_id_in_the_cache_is_returned_unchanged(monkeypatch):
    asked = []
    monkeypatch.setattr(
        "transformers.utils.hub.cached_file",
        lambda name, file, revision: asked.append((name, file, revision)),
    )
    assert resolve_model("owner/model", "abc") == "owner/model"
    assert asked == [("owner/model", "config.json", "abc")]
    assert model_identity("owner/model", "abc") == "owner/model@abc"


def test_identity_follows_the_content(tmp_path):
    for place in ("x", "y"):
        (tmp_path / place / "model").mkdir(parents=True)
        (tmp_path / place / "model" / "config.json").write_text("{}")
        (tmp_path / place / "model" / "model.safetensors").write_bytes(b"weights")
    first = model_identity(str(tmp_path / "x" / "model"))
    assert first.startswith("model@")
    assert model_identity(str(tmp_path / "y" / "model")) == first
    (tmp_path / "y" / "model" / "model.safetensors").write_bytes(b"others!")
    assert model_identity(str(tmp_path / "y" / "model")) != first


@pytest.mark.parametrize("name", ["x" * 5000, "~nobody-of-that-name/model"])
def test_a_name_that_no_file_may_have_is_one_message(name):
    with pytest.raises(PolicyError, match="cannot be a folder"):
        resolve_model(name)
