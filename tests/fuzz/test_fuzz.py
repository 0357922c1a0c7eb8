"""250 fuzzed inputs in every run of the suite; `make fuzz` runs 10,000."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CASES, SEED = 250, 2
SCRIPT = Path(__file__).with_name("run.py")


def test_no_traceback_hang_half_written_output_or_wrong_acceptance(tmp_path):
    command = [sys.executable, str(SCRIPT), "--cases", str(CASES), "--seed", str(SEED)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, cwd=tmp_path)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-3000:]}"
    assert f"| all | {CASES} |" in done.stdout
