"""The command line: parses, calls one Python function, prints. No logic, and nothing heavy is imported for --help."""

from __future__ import annotations

import atexit
import errno
import gc
import os
import sys
from collections.abc import Sequence

QUIET = "HF_HUB_DISABLE_PROGRESS_BARS"
"""Read by huggingface_hub and transformers: no bars for reading single files, in no command or worker."""


_OF_PATHS = (errno.ENAMETOOLONG, errno.ELOOP, errno.EISDIR, errno.ENOTDIR)
"""Errors of a path that the user gave: too long, a link to itself, a folder instead of a file."""


def main() -> None:
    """Entry point of `lmrl-bench`; user errors become one message and their exit code."""
    os.environ.setdefault(QUIET, "1")
    # Skips the last garbage collection at exit, which walks all of torch's objects for a second.
    atexit.register(gc.freeze)
    try:
        _run()
    except KeyboardInterrupt:  # before the command line handles it
        sys.exit(130)


def _run() -> None:
    from lmrl_bench.cli.app import app
    from lmrl_bench.core.errors import LmrlBenchError

    try:
        _require_text(sys.argv[1:])
        app()
    except LmrlBenchError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.stderr.close()
    except OSError as error:
        if error.errno not in _OF_PATHS or error.filename is None:
            raise
        print(f"error: {error.filename!s:.200}: {error.strerror}", file=sys.stderr)
        sys.exit(LmrlBenchError.exit_code)


def _require_text(arguments: Sequence[str]) -> None:
    """Refuses an argument that is not UTF-8: it could be written into no record, and its path into no message."""
    from lmrl_bench.core.errors import ConfigError

    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            shown = ascii(argument)
            raise ConfigError(
                f"the argument {shown:.100} is not UTF-8; rename the file or folder, or write the text "
                "in UTF-8"
            ) from None
