"""`make perf`: our algorithms, the floor and the installed peers. See tests/performance/README.md."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from harness.compare import Contest, Peer, PerformanceError
from harness.program import measure
from harness.report import contests_of, document, table

from lmrl_bench.core.errors import LmrlBenchError

HERE = Path(__file__).resolve().parent
TRL_112 = HERE.parents[1] / ".venv-trl112" / "bin" / "python"
LARGE = ("W1", "W1x4", "W2", "W3", "G")
PEERS = {
    peer.name: peer
    for peer in (
        Peer(
            "trl", Path(sys.executable), HERE / "peers" / "trl_groups.py", ("grpo", "rloo"), LARGE
        ),
        Peer("trl-1.12", TRL_112, HERE / "peers" / "trl_ppo.py", ("ppo",), LARGE),
        Peer("sb3", Path(sys.executable), HERE / "peers" / "sb3.py", ("ppo", "a2c"), ("S", "M1")),
    )
}


def names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workloads", type=names, default=[], help="default: all but G")
    parser.add_argument("--algorithms", type=names, default=[], help="default: all")
    parser.add_argument("--peers", type=names, default=list(PEERS), help="default: all")
    parser.add_argument(
        "--rounds", type=positive, default=5, help="undisturbed rounds of each side"
    )
    parser.add_argument("--device", default="cpu", help="where all sides compute; default: cpu")
    parser.add_argument("--bfloat16", action="store_true", help="ours once more, in bfloat16")
    parser.add_argument("--json", type=Path, help="file for everything that was measured")
    parser.add_argument(
        "--show", type=Path, nargs="+", help="measure nothing: the table of these files"
    )
    given = parser.parse_args()
    unknown = ", ".join(name for name in given.peers if name not in PEERS)
    if unknown:
        parser.error(f"--peers: {unknown}; known are {', '.join(PEERS)}, and '' for none")
    if given.json and not given.json.parent.is_dir():
        parser.error(f"--json: there is no folder {given.json.parent}")
    try:
        print(table(stored(given.show) if given.show else played(given)))
    except LmrlBenchError as error:
        parser.error(str(error))


def stored(files: Sequence[Path]) -> list[Contest]:
    """Returns the contests of some files that `--json` wrote."""
    found = []
    for file in files:
        try:
            found += contests_of(json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError, PerformanceError) as error:
            raise PerformanceError(f"--show: {file}: {error}") from error
    return found


def played(given: argparse.Namespace) -> list[Contest]:
    """Plays the contests, and writes them down as they end."""
    contests = []
    for contest in measure(
        given.workloads,
        given.algorithms,
        [PEERS[name] for name in given.peers],
        rounds=given.rounds,
        note=lambda text: print(text, file=sys.stderr, flush=True),
        device=given.device,
        bfloat16=given.bfloat16,
    ):
        contests.append(contest)
        if given.json:  # each time, as the whole takes hours
            text = json.dumps(document(contests), indent=1) + "\n"
            given.json.write_text(text, encoding="utf-8")
    return contests


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not at least 1")
    return number


if __name__ == "__main__":
    main()
