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
    atexit.register(
        gc.freeze
    )  # else Python searches all of torch for garbage as it ends, for a second
    from lmrl_bench.cli.app import app
    from lmrl_bench.errors import LmrlBenchError

    try:
        app()
    except LmrlBenchError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.stderr.close()
