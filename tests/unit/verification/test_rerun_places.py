"""Training again asks for a run's folder; any other place is refused with a message."""

from pathlib import Path

import pytest

from lmrl_bench.core.errors import RecordError
from lmrl_bench.verification.retrain import entry_folder


@pytest.mark.parametrize("place", ["/", "/..", "/run", "../" * 60])
def test_a_folder_at_the_root_is_not_a_run(place):
    with pytest.raises(RecordError, match="not the folder of a run"):
        entry_folder(Path(place))
