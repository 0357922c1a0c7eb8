"""A folder may vanish between being found and being read."""

from lmrl_bench.verification.tree import unsafe


def test_a_vanished_folder_is_a_reason(tmp_path):
    assert unsafe(tmp_path) is None
    assert (
        unsafe(tmp_path / "gone")
        == f"{tmp_path / 'gone'}: cannot be read (No such file or directory)"
    )
