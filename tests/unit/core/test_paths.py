"""Published text names no folder of the user's, and says as much as it can without one."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmrl_bench.core.paths import PACKAGE, is_plain_name, public_name, without_folders


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("nano-causal", "nano-causal"),
        ("owner/name", "owner/name"),
        ("./models/mine", "./models/mine"),
        ("/home/me/models/mine", "mine"),
        ("/home/me/models/mine/", "mine"),
        ("~/models/mine", "mine"),
        ("~me", "model"),
        ("../mine", "mine"),
        ("a/../../me/mine", "mine"),
        ("C:\\Users\\me\\mine", "mine"),
        ("\\\\host\\share\\mine", "mine"),
        ("/", "model"),
        ("/a/..", "model"),
    ],
)
def test_names_of_models(name, shown):
    assert public_name(name) == shown
    assert public_name(shown) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/home/me/x/data.jsonl:3: not JSON", "data.jsonl:3: not JSON"),
        ("error:/home/me/x", "error:x"),
        ("no file '/home/me/a b/c'", "no file 'a b/c'"),
        ("HERE/results/a/record.json: corrupt", "results/a/record.json: corrupt"),
        ("HERE: not writable", ".: not writable"),
        ("PACKAGE/algorithms/ppo.py", "lmrl_bench/algorithms/ppo.py"),
        ("cannot read /home/other", "cannot read ~"),
        ("cannot read ~/secret/model", "cannot read model"),
        ("C:\\Users\\me\\x.txt is missing", "x.txt is missing"),
        ("\\\\host\\share\\x.txt is missing", "x.txt is missing"),
        ("file:///home/me/x/y", "y"),
        ("(/opt/x/lib.so)", "(lib.so)"),
        ("https://example.org/home/me/x", "https://example.org/home/me/x"),
        ("chrf and/or bleu, 1/2, 3 / 4, data/test.jsonl:3", None),
        ("'/home/me' and '/home/me/x'", "'~' and 'x'"),
    ],
)
def test_messages(text, shown, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.chdir(tmp_path)
    text = text.replace("HERE", str(tmp_path)).replace("PACKAGE", str(PACKAGE))
    assert without_folders(text) == (text if shown is None else shown)


def test_a_home_with_a_space_is_not_a_secret_hole(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me too")
    assert Path.home() == Path("/home/me too")
    assert "me too" not in without_folders("/home/me too/x.txt and '/home/me too'")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/a", "a\\b", "a\0"])
def test_plain_names(name):
    assert is_plain_name("curves.jsonl")
    assert not is_plain_name(name)
