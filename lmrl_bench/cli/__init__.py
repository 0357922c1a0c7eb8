"""The command line: parses, calls one Python function, prints. No logic, and nothing heavy is imported for --help."""

from __future__ import annotations

import atexit
import gc
import os
import sys

QUIET = "HF_HUB_DISABLE_PROGRESS_BARS"
"""Read by huggingface_hub and transformers: no bars for reading single files, in no command or worker."""


def main() -> None:
    """Entry point of `lmrl-bench`; user errors become one message and their exit code."""
    os.environ.setdefault(QUIET, "1")
    # Else Python searches all of torch for garbage as it ends, for a second.
    atexit.register(gc.freeze)
    try:
        _run()
    except KeyboardInterrupt:  # before the command line handles it
        sys.exit(130)


def _run() -> None:
    from lmrl_bench.cli.app import app
    from lmrl_bench.errors import LmrlBenchError

    try:
        app()
    except LmrlBenchError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.stderr.close()
