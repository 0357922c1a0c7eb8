"""The files of a leaderboard: all formats from one table, equal bytes, safe text, and the drift gate."""

import csv
import io
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from xml.etree import ElementTree

import jsonschema
import pytest
from fixtures.leaderboards import (
    fake_content,
    fake_expected,
    fake_spec,
    write_cell,
    write_leaderboard,
)

from lmrl_bench.core.errors import VerificationError
from lmrl_bench.leaderboards.build import build, check, render
from lmrl_bench.leaderboards.collect import collect
from lmrl_bench.leaderboards.overview import with_statistics
from lmrl_bench.leaderboards.render.columns import number
from lmrl_bench.leaderboards.spec import cells
from lmrl_bench.leaderboards.table import LeaderboardTable

SPEC = fake_spec()
HOLES = {
    ("docs-en-de", "a2c", 1): "diverged",
    ("docs-en-de", "nlpo", 0): None,
    ("docs-en-de", "nlpo", 2): "failed",
}
NAMES = ["README.md", "curves-docs-en-de.svg", "curves-imdb-continuation.svg", "index.html", "leaderboard.json",
         "leaderboard.schema.json", "overview.svg", "table.csv", "table.tex", "table_wide.csv"]  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    write_leaderboard(folder, SPEC, HOLES)
    return folder


@pytest.fixture(scope="module")
def files(root):
    return {
        name: content.decode()
        for name, content in render(collect(SPEC, root, fake_expected)).items()
    }


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A leaderboard of one task and two entries, where a test builds several times."""
    spec = fake_spec(
        tasks=[{"task": "docs-en-de"}],
        entries=[
            {"entry": "sft", "algorithm": "no-training"},
            {"entry": "ppo", "algorithm": "ppo"},
        ],
        baselines={"zero_shot": None},
    )
    folder = tmp_path_factory.mktemp("small")
    write_leaderboard(folder, spec, {})
    return spec, folder


def test_build_then_check(root, tmp_path):
    paths = build(SPEC, root, tmp_path, fake_expected)
    assert [p.name for p in paths] == NAMES
    assert sorted(p.name for p in tmp_path.iterdir()) == NAMES
    check(SPEC, root, tmp_path, fake_expected)


def test_check_lists_what_is_stale_and_how_to_fix_it(small, tmp_path):
    spec, root = small
    build(spec, root, tmp_path, fake_expected)
    (tmp_path / "table.csv").write_text("edited")
    (tmp_path / "table.tex").unlink()
    (tmp_path / "curves-old-task.svg").write_text("<svg/>")
    with pytest.raises(VerificationError) as caught:
        check(spec, root, tmp_path, fake_expected)
    assert caught.value.exit_code == 3
    assert str(caught.value).splitlines() == [
        f"{tmp_path}/table.csv: stale",
        f"{tmp_path}/table.tex: missing",
        f"{tmp_path}/curves-old-task.svg: left over",
        "the records say otherwise; rebuild the files with `lmrl-bench leaderboard build`",
    ]
    assert (tmp_path / "table.csv").read_text() == "edited"
    build(spec, root, tmp_path, fake_expected)
    assert not (tmp_path / "curves-old-task.svg").exists()
    check(spec, root, tmp_path, fake_expected)


def test_a_changed_record_makes_the_leaderboard_stale(small, tmp_path):
    spec, results, out = small[0], tmp_path / "results", tmp_path / "out"
    write_leaderboard(results, spec, {})
    build(spec, results, out, fake_expected)
    write_leaderboard(results, spec, {("docs-en-de", "ppo", 2): "failed"})
    with pytest.raises(VerificationError, match=r"README\.md: stale"):
        check(spec, results, out, fake_expected)


def test_bytes_are_the_same_in_another_process(root, files, tmp_path):
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[3]);"
        "from fixtures.leaderboards import fake_expected, fake_spec; from lmrl_bench.leaderboards.build import build;"
        "build(fake_spec(), Path(sys.argv[1]), Path(sys.argv[2]), fake_expected)"
    )
    tests = next(p for p in sys.path if p.endswith("tests"))
    subprocess.run([sys.executable, "-c", code, str(root), str(tmp_path), tests], check=True)
    for name, text in files.items():
        assert (tmp_path / name).read_text() == text, name


def test_markdown(files):
    text = files["README.md"]
    assert re.search(r"\| ppo \| \*\*0\.\d{3} ± 0\.\d{3} \(n=3\)\*\* \|", text)
    assert "| 1/3: seed 0 missing, seed 2 failed |" in text
    assert "| 2/3: seed 1 diverged |" in text
    assert re.search(r"\| a2c \|.*\| 0\.\d{3}, 0\.\d{3} \(n=2\) \|", text)
    assert "lmrl-bench leaderboard check fake" in text
    assert "perplexity ↓" in text
    assert "Entries that train nothing: zero-shot, sft." in text
    assert "aaaaaaa" not in text  # no commit: the file changes only when the numbers do


def test_nobody_takes_the_filtered_entry_for_an_unfiltered_one(files):
    """Ranked without its filter; a line through it below with a dagger, a footnote, and verdicts for both."""
    text = files["README.md"]
    overview = text[: text.index("## All tasks together")]
    bare, filtered = (line for line in overview.splitlines() if line.startswith("| nlpo"))
    assert bare.startswith("| nlpo | ")
    assert filtered.startswith("| nlpo, filtered † | 0.")
    assert "**" not in filtered
    note = "† nlpo acts through a token filter that the other entries do not have"
    assert text.count(note) == 3  # overview and two tasks
    task = text[text.index("## imdb-continuation") : text.index("## docs-en-de")]
    verdicts = [line.split(" | ")[0] for line in task.splitlines() if "overlap |" in line]
    assert verdicts.count("| nlpo") == verdicts.count("| nlpo, filtered †") == 2
    page = files["index.html"]
    assert page.count("† nlpo acts through a token filter") == 3
    assert re.search(
        r'<th scope="row">(<span class="swatch s\d"></span>)?nlpo, filtered †</th>', page
    )
    assert page.count("<summary>nlpo: ") == 2  # its runs, once in each task
    assert '<li data-entry="nlpo"><h4>nlpo' in page  # the sample viewer names completions
    assert r"nlpo, filtered $\dagger$ &" in files["table.tex"]
    assert r"$\dagger$ nlpo acts through a token filter" in files["table.tex"]
    assert ">nlpo †</text>" in files["curves-imdb-continuation.svg"]
    for line in csv.DictReader(io.StringIO(files["table.csv"])):
        own = line["entry"] == "nlpo" and line["decoding"] not in ("", "test-unfiltered")
        if line["decoding"]:
            assert line["filtered"] == ("yes" if own else "no")


def test_a_leaderboard_without_masks_has_no_dagger(tmp_path):
    spec = fake_spec(
        entries=[{"entry": "ppo", "algorithm": "ppo"}],
        baselines={"zero_shot": None, "sft": None},
    )
    write_leaderboard(tmp_path, spec, {})
    files = {k: v.decode() for k, v in render(collect(spec, tmp_path, fake_expected)).items()}
    legend = "† marks the numbers of an entry through a token filter of its own"
    assert files["README.md"].count("†") == files["README.md"].count(legend) == 1
    assert "dagger" not in files["table.tex"]


def test_json_is_the_table(root, files):
    content = json.loads(files["leaderboard.json"])
    table = with_statistics(collect(SPEC, root, fake_expected))
    assert LeaderboardTable.model_validate(content) == table
    reward = content["tasks"][0]["entries"][2]["splits"]["test"]["reward"]
    assert reward["interval"][0] < reward["mean"] < reward["interval"][1]


def test_json_is_as_its_schema_says(files):
    schema, content = (
        json.loads(files["leaderboard.schema.json"]),
        json.loads(files["leaderboard.json"]),
    )
    assert content["$schema"] == "leaderboard.schema.json"
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    validator.validate(content)
    content["tasks"][0]["entries"][0]["runs"][0]["seed"] = "zero"
    content["extra"] = 1
    assert {".".join(map(str, e.path)) for e in validator.iter_errors(content)} == {
        "", "tasks.0.entries.0.runs.0.seed",
    }  # fmt: skip


def test_csv_long_has_every_number_once(files):
    lines = list(csv.DictReader(io.StringIO(files["table.csv"])))
    keys = [(x["task"], x["entry"], x["seed"], x["decoding"], x["measure"]) for x in lines]
    assert len(keys) == len(set(keys))
    holes = [x for x in lines if x["status"] != "completed"]
    assert [(x["entry"], x["seed"], x["status"], x["value"]) for x in holes] == [
        ("a2c", "1", "diverged", ""), ("nlpo", "0", "missing", ""), ("nlpo", "2", "failed", ""),
    ]  # fmt: skip
    # the value of a seed stands at that seed, also where an earlier seed is missing
    record = json.loads(files["leaderboard.json"])["tasks"][1]["entries"][4]["splits"]["test"][
        "reward"
    ]
    values = {key: line["value"] for key, line in zip(keys, lines, strict=True)}
    value = values["docs-en-de", "nlpo", "1", "test", "reward"]
    assert float(value) == record["points"][0]


def test_csv_wide(files):
    rows = list(csv.DictReader(io.StringIO(files["table_wide.csv"])))
    lines = {(x["task"], x["entry"]): x for x in rows if x["filtered"] == "no"}
    assert {x["entry"] for x in rows if x["filtered"] == "yes"} == {"nlpo"}
    full, holes = lines["imdb-continuation", "ppo"], lines["docs-en-de", "nlpo"]
    assert (
        float(full["test/reward:low"])
        < float(full["test/reward:mean"])
        < float(full["test/reward:high"])
    )
    assert (holes["test/reward:mean"], holes["test/reward:n"], holes["completed"]) == ("", "1", "1")


def test_latex(files):
    text = files["table.tex"]
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 3
    assert r"\label{tab:fake-all}" in text
    assert r"\label{tab:fake-imdb-continuation}" in text
    assert r"\textbf{0." in text
    for table in text.split(r"\begin{tabular}")[1:]:
        columns = {line.count("&") for line in table.splitlines() if line.endswith(r"\\")}
        assert len(columns) == 1


class _Page(HTMLParser):
    """Collects tags, ids and addresses, and checks that tags nest."""

    VOID = ("meta", "link", "br", "input", "img", "hr")

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.addresses, self.tags = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        found = dict(attrs)
        self.ids += [found["id"]] if "id" in found else []
        self.addresses += [found[k] for k in ("href", "src", "xlink:href", "action") if k in found]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_and_asks_the_network_for_nothing(files):
    page = _Page(files["index.html"])
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    allowed = {
        "table.csv",
        "table_wide.csv",
        "table.tex",
        "leaderboard.json",
        "leaderboard.schema.json",
        "data:,",
    }
    assert {a for a in page.addresses if not a.startswith("#")} <= allowed
    assert {a[1:] for a in page.addresses if a.startswith("#")} <= set(page.ids)
    assert not re.search(r"url\((?!#)|@import|fetch\(|XMLHttpRequest", files["index.html"])
    assert page.tags.count("script") == 1


def test_texts_are_escaped(files):
    assert "&lt;script&gt;alert(1)" in files["index.html"]
    assert "<script>alert(1)" not in files["index.html"]
    assert "<b>was</b>" not in files["index.html"]


def test_free_texts_of_records_add_nothing_to_the_page(tmp_path):
    """The same leaderboard with harmless and with hostile texts has the same elements and attributes."""

    entries = [{"entry": "sft", "algorithm": "no-training"}, {"entry": "ppo", "algorithm": "ppo"}]
    spec = fake_spec(tasks=[{"task": "docs-en-de"}], entries=entries, baselines={"zero_shot": None})

    def built(name, text):
        for cell in cells(spec):
            status = "failed" if cell.seed == 1 else "completed"
            content = fake_content(cell, status=status)
            content["provenance"]["command"] = text.replace("\n", " ")
            if status == "failed":
                content["error"] |= {"message": text, "traceback": text}
            write_cell(tmp_path / name, spec.name, cell, content)
        leaderboard = collect(spec, tmp_path / name, fake_expected)
        made = {k: v.decode() for k, v in render(leaderboard).items()}
        return made, _Elements(made["index.html"]).found

    plain, elements = built("plain", "harmless")
    files, found = built(
        "hostile", "<script>alert(1)</script>\"'& onload=x | a | b\n| c `d`\n\n# e"
    )
    assert found == elements
    assert "alert(1)" in files["index.html"]
    lines, before = files["README.md"].splitlines(), plain["README.md"].splitlines()
    assert len(lines) == len(before)
    for line, other in zip(lines, before, strict=True):
        assert line.startswith("|") == other.startswith("|")
        if line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) == len(re.findall(r"(?<!\\)\|", other)), line
    assert "<script" not in files["README.md"]


class _Elements(HTMLParser):
    """Collects tags with the names of their attributes, in order."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, [name for name, _ in attrs]))


def test_the_page_shows_provenance_and_samples(files):
    text = files["index.html"]
    assert "lmrl-bench leaderboard run fake --jobs 2" in text
    assert f"git checkout {'a' * 40} -- lmrl_bench tasks\nfor seed in 0 1 2; do" in text
    assert "there is no record in <code>fake/docs-en-de/nlpo/0</code>" in text
    assert text.count('class="sample"') == 16
    assert 'class="best"' in text


def test_plots_are_xml_without_dates(files):
    for name in NAMES:
        if name.endswith(".svg"):
            ElementTree.fromstring(files[name])
            assert "dc:date" not in files[name]
            assert ("overview" in name) != ("validation reward" in files[name])


def test_a_task_without_completed_runs_is_said(tmp_path):
    gone = {(c, label, s): None for c in ("docs-en-de",) for label in
            ("zero-shot", "sft", "ppo", "a2c", "nlpo") for s in (0, 1, 2)}  # fmt: skip
    write_leaderboard(tmp_path, SPEC, gone)
    files = {k: v.decode() for k, v in render(collect(SPEC, tmp_path, fake_expected)).items()}
    assert "No run of this task has completed yet." in files["README.md"]
    assert "No run of this task has completed yet." in files["index.html"]
    assert "| missing |" in files["README.md"]


@pytest.mark.parametrize(
    ("value", "places", "text"), [(-0.0001, 3, "0.000"), (0.6125, 2, "0.61"), (-1.5, 1, "-1.5")]
)
def test_number(value, places, text):
    assert number(value, places) == text


def test_findings_are_printed_as_they_are_written(small):
    spec, folder = small
    without = render(collect(spec, folder, fake_expected))
    for name in ("README.md", "index.html"):
        assert "What it says" not in without[name].decode()
    said = spec.model_copy(update={"findings": ["**ppo** gains\n  <little>.", "Second."]})
    files = {
        name: text.decode() for name, text in render(collect(said, folder, fake_expected)).items()
    }
    assert "## What it says\n\n- **ppo** gains <little>.\n- Second.\n" in files["README.md"]
    assert "<strong>ppo</strong> gains\n  &lt;little&gt;." in files["index.html"]
    assert json.loads(files["leaderboard.json"])["findings"] == said.findings
