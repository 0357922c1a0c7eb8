"""A task folder opened: samples, checks of rows, reward, metrics, digest, plug-in, data sets."""

from __future__ import annotations

import re
import subprocess
import sys
import time

import pytest
from helpers_tasks import SPLITS, definition, file_of, rows, small_task, write_task

from lmrl_bench.core import digests
from lmrl_bench.core.digests import file_sha256
from lmrl_bench.core.errors import ConfigError, DataError, TaskError
from lmrl_bench.tasks.task import Task


def test_samples_are_rendered_and_kept(tmp_path):
    spec = definition(prompt={"template": "say: {{ prompt }}", "max_tokens": 32})
    task = small_task(tmp_path, spec)
    sample = task.samples("train")[0]
    assert sample.id == "train-0"
    assert sample.prompt == "say: " + rows("train")[0]["prompt"]
    assert sample.references == (rows("train")[0]["reference"],)
    assert dict(sample.meta) == {"label": "positive"}
    assert task.samples("train") is task.samples("train")
    with pytest.raises(TypeError):
        sample.meta["label"] = "other"


def test_lists_and_several_columns_of_references(tmp_path):
    data = [{"prompt": f"p{n}", "one": ["a", "b"], "two": "c"} for n in range(3)]
    spec = definition(data={"reader": "jsonl", "references": ["one", "two"]})
    task = small_task(tmp_path, spec, dict.fromkeys(SPLITS, data))
    assert task.samples("test")[1].references == ("a", "b", "c")
    assert task.samples("test")[1].id == "test-1"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"reference": " "},
            r"data/train\.jsonl\.gz:3: row 'train-2' has a reference that is empty",
        ),
        ({"reference": 5}, r"train\.jsonl\.gz:3: .*not text"),
        ({"reference": []}, r"train\.jsonl\.gz:3: .*no reference"),
        ({"id": "train-0"}, r"gz:3: the id 'train-0' was already used at .*gz:1"),
        ({"id": ""}, r"gz:3: the column 'id' .*is empty"),
        ({"prompt": ""}, r"gz:3: row 'train-2' has an empty prompt"),
    ],
)
def test_unusable_rows_name_file_line_and_id(tmp_path, change, message):
    data = rows("train")
    data[2] = {**data[2], **change}
    with pytest.raises(DataError, match=message):
        small_task(tmp_path, data={"train": data}).samples("train")


@pytest.mark.parametrize("column", ["id", "prompt", "reference", "label"])
def test_a_missing_column_is_named(tmp_path, column):
    data = rows("train")
    del data[1][column]
    with pytest.raises(DataError, match=rf"gz:2: .*'{column}'"):
        small_task(tmp_path, data={"train": data}).samples("train")


def test_one_id_in_two_splits_is_refused(tmp_path):
    task = small_task(tmp_path, data={"test": [{**rows("test")[0], "id": "train-7"}]})
    task.samples("train")
    with pytest.raises(DataError, match="both 'train' and 'test', for example 'train-7'"):
        task.samples("test")


def test_wrong_digest_names_file_expected_found_and_remedy(tmp_path):
    folder = write_task(tmp_path)
    path = folder / "data" / "train.jsonl.gz"
    expected = Task(folder).spec.data.train.sha256
    path.write_bytes(path.read_bytes() + b"x")
    found = file_sha256(path)
    pattern = rf"train\.jsonl\.gz: sha256 is {found}, expected {expected}.*git checkout"
    with pytest.raises(DataError, match=pattern):
        Task(folder).samples("train")


def test_the_digest_is_computed_once(tmp_path, monkeypatch):
    task = small_task(tmp_path)
    time.sleep(0.1)  # a file that was written in the last tick of the clock is not remembered
    task.samples("train")
    monkeypatch.setattr(digests, "file_sha256", lambda path: pytest.fail("computed again"))
    assert Task(task.folder).samples("train")


def test_missing_file_and_wrong_number_of_rows(tmp_path):
    folder = write_task(tmp_path)
    text = (folder / "task.yaml").read_text()
    (folder / "task.yaml").write_text(text.replace("rows: 40", "rows: 41"))
    with pytest.raises(DataError, match="40 rows, expected 41"):
        Task(folder).samples("train")
    (folder / "data" / "train.jsonl.gz").unlink()
    with pytest.raises(DataError, match=r"train\.jsonl\.gz: no such file \(data\.train\.path"):
        Task(folder).samples("train")


def test_no_rows_at_all(tmp_path):
    spec = definition()
    for split in SPLITS:
        spec["data"][split] = {"path": "empty.jsonl"}
    folder = write_task(tmp_path, spec)
    (folder / "empty.jsonl").write_text("")
    with pytest.raises(DataError, match=r"'train' of .* has no rows"):
        Task(folder).samples("train")


@pytest.mark.parametrize(
    ("template", "error", "message"),
    [
        ("{{ promt }}", DataError, r"gz:1: .*'promt' is undefined.*columns: id, prompt"),
        ("{{ prompt ", TaskError, r"task\.yaml: prompt\.template"),
        ("{{ ''.__class__.__mro__ }}", DataError, "unsafe"),
    ],
)
def test_bad_templates(tmp_path, template, error, message):
    spec = definition(prompt={"template": template, "max_tokens": 32})
    with pytest.raises(error, match=message):
        small_task(tmp_path, spec).samples("train")


def test_sft_rows(tmp_path):
    task = small_task(tmp_path, definition(sft={"filter": {"label": "positive"}}))
    assert {sample.meta["label"] for sample in task.sft_samples()} == {"positive"}
    assert len(task.sft_samples()) == 20
    wrong = definition(sft={"filter": {"color": "red"}})
    with pytest.raises(TaskError, match="color; list it in data"):
        small_task(tmp_path, wrong).sft_samples()
    none = definition(sft={"filter": {"label": "neutral"}})
    with pytest.raises(TaskError, match="no row of 'train' matches"):
        small_task(tmp_path, none).sft_samples()


def test_metrics_are_told_apart_by_their_alias(tmp_path):
    metrics = {
        "primary": {"name": "distinct", "args": {"n": 1}, "as": "distinct-words"},
        "held_out": [{"name": "distinct", "args": {"n": 3}, "as": "distinct-triples"}],
        "others": [{"name": "chrf"}],
    }
    task = small_task(tmp_path, definition(metrics=metrics))
    assert list(task.metrics()) == ["distinct-words", "distinct-triples", "chrf"]
    assert task.metric("chrf") is task.metrics()["chrf"]
    with pytest.raises(TaskError, match="no metric 'chr'; did you mean 'chrf'"):
        task.metric("chr")
    del metrics["held_out"][0]["as"], metrics["primary"]["as"]
    with pytest.raises(ConfigError, match="distinct is listed twice"):
        small_task(tmp_path, definition(metrics=metrics))


def test_the_self_test_passes_on_gold_and_fails_on_swapped_references(tmp_path):
    task = small_task(tmp_path)
    result = task.self_test()
    assert result.problems == []
    assert result.gold_reward == pytest.approx(1.0)
    assert set(result.metrics) == {"rouge-l", "chrf"}
    reward = definition(reward={"terms": [{"name": "rouge-l", "weight": -1.0}]})
    problems = small_task(tmp_path, reward).self_test().problems
    assert len(problems) == 1
    assert problems[0].startswith("reward: the reference gets -1")


def test_the_digest_covers_what_can_move_a_score_and_nothing_else(tmp_path):
    folder = write_task(tmp_path)
    before = Task(folder).digest
    path = folder / "task.yaml"
    text = path.read_text()
    path.write_text(text.replace("A task for tests.", "Other words."))
    assert Task(folder).digest == before
    seen = {before}
    path.write_text(text.replace("max_tokens: 16", "max_tokens: 17"))
    seen.add(Task(folder).digest)
    path.write_text(text)
    (folder / "plugin.py").write_text("# code\n")
    seen.add(Task(folder).digest)
    (folder / "models").mkdir()
    (folder / "models" / "weights").write_bytes(b"1")
    seen.add(Task(folder).digest)
    assert len(seen) == 4


def test_data_info(tmp_path):
    task = small_task(tmp_path)
    assert task.data_info()["test"] == {"sha256": task.spec.data.test.sha256, "rows": 40}


def test_the_name_is_the_folders(tmp_path):
    folder = write_task(tmp_path)
    moved = folder.rename(tmp_path / "other")
    with pytest.raises(TaskError, match="name is 'small', but the folder is 'other'"):
        Task(moved)


def test_wrong_yaml_names_file_and_line(tmp_path):
    folder = write_task(tmp_path)
    text = (folder / "task.yaml").read_text()
    (folder / "task.yaml").write_text(text.replace("summary:", "sumary:"))
    with pytest.raises(ConfigError, match=r"task\.yaml:4.*sumary.*summary"):
        Task(folder)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"reader": "jsonl", "train": {"sha256": "0" * 64}}, r"data\.train\.path is required"),
        ({"reader": "hf-datasets", "dataset": "x"}, r"data\.train\.split is required"),
    ],
)
def test_fields_that_a_reader_needs(tmp_path, data, message):
    spec = definition(data=data)
    for split in SPLITS:
        spec["data"].setdefault(split, {"path": "a.jsonl"})
    with pytest.raises(ConfigError, match=message):
        small_task(tmp_path, spec)


def test_unknown_reader(tmp_path):
    spec = definition(data={"reader": "json", "references": "reference"})
    with pytest.raises(TaskError, match=r"unknown reader 'json'; did you mean 'jsonl'.*plugin"):
        small_task(tmp_path, spec).samples("train")


PLUGIN = """
def read(spec, split, path):
    for number, line in enumerate(path.read_text().splitlines()):
        prompt, reference = line.split("\\t")
        yield {"prompt": f"{spec.name} {split} {prompt}", "reference": reference}
"""


def plugin_task(tmp_path, code=PLUGIN, content=b"a\tb\nc\td\n", **changes) -> Task:
    folder = tmp_path / "small"
    folder.mkdir(exist_ok=True)
    file = file_of(folder / "rows.tsv", content)
    data = {"reader": "plugin", "references": "reference", **dict.fromkeys(SPLITS, file)}
    write_task(tmp_path, definition(data=data, **changes))
    (folder / "plugin.py").write_text(code)
    return Task(folder)


def test_plugin_reads_the_checked_file(tmp_path):
    task = plugin_task(tmp_path)
    assert task.samples("test")[1].prompt == "small test c"
    assert task.samples("test")[1].references == ("d",)
    (task.folder / "rows.tsv").write_text("changed\tfile\n")
    with pytest.raises(DataError, match="sha256 is"):
        Task(task.folder).samples("train")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import no_such_module", r"plugin\.py:1: cannot be imported: ModuleNotFoundError"),
        ("x = 1", r"plugin\.py: must define .*the function `read"),
        (PLUGIN.replace('"\\t"', '"|"'), r"read\(\) failed on .*rows\.tsv: ValueError"),
    ],
)
def test_a_failing_plugin_is_named(tmp_path, code, message):
    with pytest.raises(TaskError, match=message):
        plugin_task(tmp_path, code).samples("train")


def test_plugin_without_its_file(tmp_path):
    task = plugin_task(tmp_path)
    (task.folder / "plugin.py").unlink()
    with pytest.raises(TaskError, match=r"plugin\.py: no such file"):
        task.samples("train")


METRIC = (
    PLUGIN
    + """
from lmrl_bench.metrics import Metric, MetricResult
import numpy as np

class Vowels(Metric):
    name, bounds, signature = "NAME", (0.0, 1.0), "vowels|v1"

    def score(self, completions, samples):
        values = np.array([float("a" in text) for text in completions])
        return MetricResult(float(values.mean()), values)

METRICS = {"NAME": Vowels}
"""
)


def test_plugin_brings_a_metric(tmp_path):
    held_out = {"primary": {"name": "rouge-l"}, "held_out": [{"name": "vowels-of-test"}]}
    task = plugin_task(tmp_path, METRIC.replace("NAME", "vowels-of-test"), metrics=held_out)
    assert task.metric("vowels-of-test").score(["a", "b"], task.samples("train")).value == 0.5
    assert Task(task.folder).metrics()  # a second task object of the same folder


def test_plugin_may_not_take_a_built_in_name(tmp_path):
    task = plugin_task(tmp_path, METRIC.replace("NAME", "chrf"))
    with pytest.raises(TaskError, match="defines 'chrf', a name already used by lmrl-bench"):
        task.metrics()


@pytest.mark.parametrize("kind", ["saved", "files"])
def test_local_datasets(tmp_path, kind):
    datasets = pytest.importorskip("datasets")
    folder = tmp_path / "small" / "set"
    parts = {split: datasets.Dataset.from_list(rows(split)) for split in SPLITS}
    if kind == "saved":
        datasets.DatasetDict(parts).save_to_disk(folder)
    else:
        for split, part in parts.items():
            part.to_csv(folder / f"{split}.csv")
    data = {"reader": "hf-datasets", "dataset": "set", "references": "reference"}
    data |= {split: {"split": split, "rows": 40} for split in SPLITS}
    task = small_task(tmp_path, definition(data=data))
    assert [sample.prompt for sample in task.samples("test")] == [
        row["prompt"] for row in rows("test")
    ]
    assert re.fullmatch("[0-9a-f]{64}", task.data_info()["test"]["sha256"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": "someone/something"}, "requires data.revision"),
        (
            {"dataset": "someone/something", "revision": "a" * 40},
            "cannot be loaded .*HF_HUB_OFFLINE",
        ),
        ({"dataset": "./nowhere"}, "nowhere: no such folder"),
        ({"dataset": "set", "train": {"split": "training"}}, "no split 'training'; did you mean"),
    ],
)
def test_unusable_datasets(tmp_path, changes, message):
    datasets = pytest.importorskip("datasets")
    folder = tmp_path / "small" / "set"
    datasets.DatasetDict({"train": datasets.Dataset.from_list(rows("train"))}).save_to_disk(folder)
    data = {"reader": "hf-datasets", "references": "reference", **{s: {"split": s} for s in SPLITS}}
    task = small_task(tmp_path, definition(data=data | changes))
    with pytest.raises(DataError, match=message):
        task.samples("train")


def test_missing_datasets_package(tmp_path, monkeypatch):
    data = {"reader": "hf-datasets", "dataset": "x", "revision": "1", "references": "reference"}
    data |= {split: {"split": split} for split in SPLITS}
    task = small_task(tmp_path, definition(data=data))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"pip install 'lmrl-bench\[data\]'"):
        task.samples("train")


def test_an_download_that_is_not_installed(tmp_path, monkeypatch):
    from lmrl_bench.core.errors import DownloadError

    monkeypatch.setenv("LMRL_BENCH_CACHE", str(tmp_path / "cache"))
    spec = definition()
    spec["data"]["download"] = "movie-reviews"
    with pytest.raises(DownloadError, match="movie-reviews"):
        small_task(tmp_path, spec).samples("train")


def test_the_catalog_loads_no_torch():
    code = (
        "import sys; from lmrl_bench.tasks.catalog import load_task; "
        "load_task('docs-en-de').samples('test'); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_damaged_arrow_file_is_named_whatever_its_decoder_raises(tmp_path):
    from lmrl_bench.tasks.hub import _rows_of

    class Split:
        def __iter__(self):
            yield {"text": "x"}
            raise SystemError("Negative size passed to PyUnicode_New")

    rows = _rows_of(Split(), "data[train]")
    assert next(rows).values == {"text": "x"}
    with pytest.raises(DataError, match=r"data\[train\]: cannot read a row \(SystemError.*damaged"):
        next(rows)
