"""The benchmark itself, on a workload of seconds; that its figures are right is tests/unit/performance's."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from harness import compare, players, program
from harness.compare import Contest, Peer, PerformanceError, compete
from harness.material import make_material
from harness.program import measure
from harness.report import contests_of, document, figures, table
from harness.settings import acting_algorithms, passes, settings
from harness.workloads import WORKLOADS, Workload
from small import write_leaderboard

from lmrl_bench.algorithms.defaults import with_defaults
from lmrl_bench.core.errors import ConfigError, DownloadError
from lmrl_bench.leaderboards.spec import cells, read_leaderboard
from lmrl_bench.speedups.packing import pack_rows

TINY = Workload(
    "tiny", "gpt2", (4, 6), 5, 4, 2, epochs=2, minibatch_episodes=2,
    layers=1, width=32, heads=2, vocabulary=300,
)  # fmt: skip


def peer(folder: Path, name: str, script: str) -> Peer:
    path = folder / f"{name}.py"
    path.write_text(script)
    return Peer(name, Path(sys.executable), path, ("ppo",), ("tiny",))


ANSWERS = """
import json, sys
print(json.dumps({"ready": {"answers": "1"}}), flush=True)
for line in sys.stdin:
    played = {"generate_s": 0.1, "tokens": 20, "steps": 4, "pass_s": []}
    print(json.dumps({
        "played": played, "wall_s": 0.5, "cpu_s": 0.5, "foreign_share": None, "peak_mib": 1.0,
        "before": [1.0, 1.0], "after": [1.0, 1.0],
    }), flush=True)
"""


class Forked:
    """In the place of `subprocess.Popen`: the package's own sides fork this process, which has imported torch."""

    def __init__(self, command, *, stderr, cwd, env, **_pipes):
        (asked, ask), (answer, answered) = os.pipe(), os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                for number, stream in enumerate((asked, answered, stderr.fileno())):
                    os.dup2(stream, number)
                os.close(ask)
                os.chdir(cwd)
                os.environ.update(env)
                sys.stdin = os.fdopen(0)  # pytest has taken the old one
                players.main(*command[3:])
            finally:
                os._exit(0)
        os.close(asked)
        os.close(answered)
        self.stdin, self.stdout = os.fdopen(ask, "w"), os.fdopen(answer)

    def terminate(self):
        os.kill(self.pid, signal.SIGTERM)

    def communicate(self):
        self.stdin.close()
        self.stdout.close()
        os.waitpid(self.pid, 0)


@pytest.fixture
def _forked(monkeypatch):
    real = subprocess.Popen

    def start(command, **options):
        return (Forked if players.__name__ in command else real)(command, **options)

    monkeypatch.setattr(compare.subprocess, "Popen", start)


@pytest.mark.usefixtures("_forked")
def test_one_round(tmp_path):
    peers = [
        peer(tmp_path, "answers", ANSWERS),
        peer(tmp_path, "not-here", 'print(\'{"unavailable": "no module named x"}\')'),
        Peer("no-python", tmp_path / "python", tmp_path, ("ppo",), ("tiny",)),
        Peer("other", tmp_path / "python", tmp_path, ("grpo",), ("tiny",)),
    ]
    notes = []
    contest = compete(TINY, "ppo", peers, rounds=1, note=notes.append)
    assert list(contest.versions) == ["floor", "ours", "answers"]
    assert set(contest.left_out) == {"not-here", "no-python"}
    assert any("no module named x" in note for note in notes)
    turn = contest.turns[0]
    assert turn["ours"].played.tokens == turn["floor"].played.tokens == TINY.tokens == 20
    assert turn["ours"].played.steps == TINY.steps == 4
    assert len(turn["floor"].played.pass_s) == 2
    assert 0 < turn["ours"].played.generate_s < turn["ours"].wall_s
    assert turn["ours"].cpu_s > 0
    assert figures(contest, "answers").steps == 4
    assert len(table([contest]).splitlines()) == 5
    stored = json.loads(json.dumps(document([contest])))
    assert set(stored["contests"][0]["sides"]) == {"floor", "ours", "answers"}
    assert contests_of(stored) == [contest]


@pytest.mark.usefixtures("_forked")
def test_bfloat16_and_float32():
    contest = compete(TINY, "a2c", [], rounds=1, note=lambda _: None, bfloat16=True)
    assert list(contest.versions) == ["floor", "ours", "ours-bf16"]
    for side in ("ours", "ours-bf16"):
        played = contest.turns[0][side].played
        assert 0 < played.update_s < contest.turns[0][side].wall_s - played.generate_s
    assert contest.turns[0]["floor"].played.update_s is None


@pytest.mark.usefixtures("_forked")
def test_what_cannot_be_bfloat16_says_why():
    """This also shows that the side is given its precision."""
    contest = compete(TINY, "trpo", [], rounds=1, note=lambda _: None, bfloat16=True)
    assert list(contest.versions) == ["floor", "ours"]
    assert "TRPO's products and its KL bound need float32" in contest.left_out["ours-bf16"]


@pytest.mark.usefixtures("_forked")
def test_a_side_that_fails_says_why(tmp_path):
    fails = peer(tmp_path, "fails", "raise SystemExit('no memory left')")
    with pytest.raises(PerformanceError, match="'fails' ended; it said:\nno memory left"):
        compete(TINY, "ppo", [fails], rounds=1, note=lambda _: None)


@pytest.mark.parametrize("name", ["S", "M1", "W1"])
def test_prompts_have_the_workload_s_length(name, tmp_path):
    material = make_material(WORKLOADS[name], tmp_path / name)
    tokenizer, (shortest, longest) = material.tokenizer(), WORKLOADS[name].prompt_tokens
    sizes = [len(tokenizer(prompt)["input_ids"]) for prompt in material.prompts]
    assert len(sizes) == 256
    assert min(sizes) == shortest
    assert max(sizes) == longest
    assert len(tokenizer) == WORKLOADS[name].vocabulary
    assert material.model().config.vocab_size == len(tokenizer)


@pytest.mark.parametrize("algorithm", acting_algorithms())
@pytest.mark.parametrize("workload", WORKLOADS.values(), ids=lambda workload: workload.name)
def test_settings_are_valid(algorithm, workload):
    from lmrl_bench.algorithms import ALGORITHMS

    config = ALGORITHMS.get(algorithm).config_class.model_validate(settings(algorithm, workload))
    assert config.episodes_per_iteration == workload.episodes
    assert getattr(config, "epochs", 1) == passes(algorithm, workload)
    prompts = torch.ones(workload.episodes, workload.prompt_tokens[1], dtype=torch.bool)
    lengths = torch.full((workload.episodes,), workload.completion_tokens)
    ids = torch.arange(prompts.numel()).view_as(prompts)
    parts = pack_rows(ids, prompts, lengths, config.micro_batch_tokens)
    assert {len(part) for part in parts} == {workload.micro_batch_episodes or workload.episodes}
    charged = config.kl.coefficient + getattr(config, "kl_loss_coefficient", 0.0)
    by_default = with_defaults(algorithm, {})["kl"]["coefficient"]
    assert charged == (0.05 if by_default else 0.0)


def test_what_is_left_out_is_said(monkeypatch):
    def no_download(*args, **kwargs):
        raise DownloadError("download 'x' is not installed")

    monkeypatch.setattr(program, "compete", no_download)
    notes = []
    assert list(measure(["W1x4", "W3"], ["a2c"], rounds=1, note=notes.append)) == []
    assert "the same as W1" in notes[0]
    assert "download 'x'" in notes[1]


@pytest.mark.parametrize(
    ("workloads", "algorithms", "message"),
    [
        (["W9"], [], "no workload 'W9'; did you mean 'W"),
        ([], ["pp"], "no algorithm 'pp'; did you mean 'ppo'"),
    ],
)
def test_unknown_names(workloads, algorithms, message):
    with pytest.raises(ConfigError, match=message.replace("?", r"\?")):
        next(measure(workloads, algorithms, rounds=1, note=print))


@pytest.mark.parametrize("device", ["cuda:1", "meta", "no such"])
def test_devices_that_not_all_sides_would_use(device):
    with pytest.raises(ConfigError, match=f"--device: '{device}' is not measured; choose cpu"):
        next(measure([], [], rounds=1, note=print, device=device))


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_no_gpu():
    with pytest.raises(ConfigError, match="--device: 'cuda' cannot be used here"):
        next(measure([], [], rounds=1, note=print, device="cuda"))


def test_all_sides_are_given_the_device(tmp_path):
    contest = Contest(TINY, "ppo", 2, "cuda")
    commands = dict(compare._commands(contest, [peer(tmp_path, "peer", "")], tmp_path, True))
    assert set(commands) == {"floor", "ours", "ours-bf16", "peer"}
    assert all(command[-3:].count("cuda") == 1 for command in commands.values())


def test_the_leaderboard_of_two_jobs_is_a_leaderboard(tmp_path):
    assert len(cells(read_leaderboard(write_leaderboard(tmp_path / "four-cells")))) == 4
