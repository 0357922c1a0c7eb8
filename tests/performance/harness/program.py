"""The whole benchmark: every chosen workload with every chosen algorithm."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from harness.compare import Contest, Note, Peer, compete
from harness.settings import acting_algorithms, passes
from harness.workloads import FOR_A_GPU, WORKLOADS
from lmrl_bench.core.errors import ConfigError, DownloadError, nearest
from lmrl_bench.runs.session import require_device


def measure(
    workloads: Sequence[str],
    algorithms: Sequence[str],
    peers: Sequence[Peer] = (),
    *,
    rounds: int,
    note: Note,
    device: str = "cpu",
    bfloat16: bool = False,
) -> Iterator[Contest]:
    """Plays every workload with every algorithm, and yields each as it ends.

    An algorithm that makes one pass is passed over in W1x4, which would be W1 again; a workload whose model
    is a download that is not installed is passed over too, with a note.

    Args:
        workloads: Names; empty: all but those for a GPU.
        algorithms: Names; empty: all that roll out.
        peers: To be compared with.
        rounds: Undisturbed rounds wanted of each side.
        note: Is told what happens.
        device: Where all sides compute: `cpu`, or `cuda` for the first visible GPU.
        bfloat16: Whether ours plays a second time, with its update in bfloat16.

    Raises:
        ConfigError: An unknown name, or no such device.
        PerformanceError: A side failed.
    """
    usual = [name for name in WORKLOADS if name not in FOR_A_GPU]
    chosen = [WORKLOADS[name] for name in _known(workloads or usual, WORKLOADS, "workload")]
    names = _known(algorithms, acting_algorithms(), "algorithm")
    if device not in ("cpu", "cuda"):
        raise ConfigError(
            f"--device: '{device}' is not measured; choose cpu or cuda, and the GPU by CUDA_VISIBLE_DEVICES"
        )
    require_device(device, "--device")
    for workload in chosen:
        for algorithm in names:
            if workload.name == "W1x4" and passes(algorithm, workload) == 1:
                note(f"W1x4 {algorithm}: the same as W1, as it goes over the episodes once")
                continue
            try:
                yield compete(
                    workload,
                    algorithm,
                    peers,
                    rounds=rounds,
                    note=note,
                    device=device,
                    bfloat16=bfloat16,
                )
            except DownloadError as error:
                note(f"{workload.name} is left out: {error}")
                break


def _known(wanted: Sequence[str], known: Iterable[str], kind: str) -> list[str]:
    names = list(known)
    for name in wanted:
        if name not in names:
            raise ConfigError(
                f"no {kind} '{name}'{nearest(name, names)} (there are: {', '.join(names)})"
            )
    return list(wanted) or names
