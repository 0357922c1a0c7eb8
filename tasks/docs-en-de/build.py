"""Rebuilds `data/*.jsonl.gz` from three Debian packages. Requires a Debian system (apt-get).

    python tasks/docs-en-de/build.py --check          # rebuild and compare with the shipped rows
    python tasks/docs-en-de/build.py --max-words 12   # other data: then increase the task's version

The help pages of LibreOffice have one identifier per paragraph in all languages, by which
paragraphs are paired. GNOME's pages have the same order of blocks in all languages; pages whose
sequences of block types differ between the two languages are skipped.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from lmrl_bench.core.digests import file_sha256
from lmrl_bench.core.errors import DataError
from lmrl_bench.tasks.spec import SPLITS, Split
from lmrl_bench.tasks.writing import split_of, write_or_compare

PACKAGES = {
    ("libreoffice-help-en-us", "4:7.4.7-1+deb12u14"): (
        "8faa840285734d6cfe1ed25537b48f07e74bd6412e3917bf8e5f8a653f7b3712"
    ),
    ("libreoffice-help-de", "4:7.4.7-1+deb12u14"): (
        "00490b63c509ac96f7f212d6a6e40452d3e0d1f97ccf4b824dd5ec4c01e8277f"
    ),
    ("gnome-user-docs", "43.0-2"): (
        "0d635a840747958ca84da778b40d341f1155603851f922c9a171f5a181d6a39f"
    ),
}
MIN_WORDS, MAX_WORDS = 5, 16  # of the source
NEAR_DUPLICATE = 0.8  # Jaccard similarity of the sources' word sets

LIBREOFFICE = Path("usr/share/libreoffice/help")
GNOME = Path("usr/share/help")
MALLARD = "{http://projectmallard.org/1.0/}"
HEADINGS_AND_PARAGRAPHS = {"p", "h1", "h2", "h3", "h4", "h5", "h6"}


class Segment(NamedTuple):
    """An aligned pair and its page."""

    source: str
    target: str
    origin: str
    page: str


class _HelpPage(HTMLParser):
    """Collects the text of every paragraph and heading with an id.

    A paragraph with a `switchinline` contains the wordings for several systems or applications
    ("FolienSeiten"), of which a browser shows one; such paragraphs are skipped.
    """

    def __init__(self) -> None:
        super().__init__()
        self.texts: dict[str, list[str]] = {}
        self._id: str | None = None
        self._tag = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        identifier = attributes.get("id")
        if tag in HEADINGS_AND_PARAGRAPHS and identifier:
            self._id, self._tag = identifier, tag
            self.texts[identifier] = []
        elif self._id and "switchinline" in (attributes.get("class") or ""):
            self.texts.pop(self._id)
            self._id = None

    def handle_endtag(self, tag: str) -> None:
        if tag == self._tag:
            self._id = None

    def handle_data(self, data: str) -> None:
        if self._id:
            self.texts[self._id].append(data)


def libreoffice_segments(root: Path) -> Iterator[Segment]:
    """Pairs the paragraphs of LibreOffice's help by page and id."""
    english, german = root / LIBREOFFICE / "en-US", root / LIBREOFFICE / "de"
    for page in sorted(english.rglob("*.html")):
        name = page.relative_to(english).as_posix()
        if not (german / name).is_file():
            continue
        sources, targets = _help_texts(page), _help_texts(german / name)
        for identifier in sources.keys() & targets.keys():
            yield Segment(sources[identifier], targets[identifier], "libreoffice", f"lo/{name}")


def _help_texts(page: Path) -> dict[str, str]:
    parser = _HelpPage()
    parser.feed(page.read_text(encoding="utf-8"))
    return {key: _one_line("".join(texts)) for key, texts in parser.texts.items()}


def gnome_segments(root: Path) -> Iterator[Segment]:
    """Pairs the blocks of GNOME's pages by their order."""
    english, german = root / GNOME / "C", root / GNOME / "de"
    for page in sorted(english.glob("*/*.page")):
        sources = _mallard_blocks(page)
        targets = _mallard_blocks(german / page.relative_to(english))
        if [kind for kind, _ in sources] != [kind for kind, _ in targets]:
            continue
        for (_, source), (_, target) in zip(sources, targets, strict=True):
            yield Segment(source, target, "gnome", f"gnome/{page.name}")


def _mallard_blocks(page: Path) -> list[tuple[str, str]]:
    blocks: list[tuple[str, str]] = []

    def walk(element: ElementTree.Element) -> None:
        if element.tag in {MALLARD + name for name in ("title", "p", "desc", "cite")}:
            blocks.append((element.tag, _one_line("".join(element.itertext()))))
        elif element.tag not in {MALLARD + name for name in ("credit", "revision", "license")}:
            for child in element:
                walk(child)

    walk(ElementTree.parse(page).getroot())
    return blocks


def _one_line(text: str) -> str:
    return " ".join(text.split())


def is_sentence_pair(segment: Segment, max_words: int) -> bool:
    """Returns whether both sides are complete sentences with plausibly equal content."""
    source, target = segment.source, segment.target
    if not MIN_WORDS <= len(source.split()) <= max_words or len(target.split()) < 3:
        return False
    same_end = source[-1] == target[-1] and source[-1] in ".!?:"
    same_digits = sorted(re.findall(r"\d+", source)) == sorted(re.findall(r"\d+", target))
    similar_length = 0.5 <= len(target) / len(source) <= 2.5
    return source != target and same_end and same_digits and similar_length


def split_segments(segments: Iterable[Segment]) -> dict[Split, list[Segment]]:
    """Keeps one target per source; a source that occurs on any training page is a training row."""
    pages: dict[str, list[Segment]] = defaultdict(list)
    for segment in sorted(set(segments), key=lambda segment: (segment.page, segment)):
        pages[segment.source].append(segment)
    splits: dict[Split, list[Segment]] = {split: [] for split in SPLITS}
    for found in pages.values():
        chosen = min(found, key=lambda segment: SPLITS.index(split_of(segment.page)))
        splits[split_of(chosen.page)].append(chosen)
    return splits


def drop_near_duplicates(
    rows: list[Segment], of: list[Segment], threshold: float = NEAR_DUPLICATE
) -> list[Segment]:
    """Drops rows whose target occurs in `of`, or whose source nearly equals one there."""
    targets = {segment.target.casefold() for segment in of}
    bags = [_words(segment.source) for segment in of]
    holders: dict[str, set[int]] = defaultdict(set)
    for index, bag in enumerate(bags):
        for word in bag:
            holders[word].add(index)

    def near(segment: Segment) -> bool:
        bag = _words(segment.source)
        shared = Counter(index for word in bag for index in holders.get(word, ()))
        return any(
            count / (len(bag) + len(bags[index]) - count) >= threshold
            for index, count in shared.items()
        )

    return [
        segment
        for segment in rows
        if segment.target.casefold() not in targets and not near(segment)
    ]


def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text.casefold()))


def as_rows(segments: list[Segment]) -> list[dict[str, str]]:
    """Returns rows ordered by id, a hash: the first n rows are a random sample."""
    rows = [
        {
            "id": hashlib.sha1(segment.source.encode()).hexdigest()[:12],
            "src": segment.source,
            "tgt": segment.target,
            "origin": segment.origin,
            "page": segment.page,
        }
        for segment in segments
    ]
    return sorted(rows, key=lambda row: row["id"])


def fetch(folder: Path) -> Path:
    """Downloads and unpacks the pinned packages; returns the root of their files."""
    root = folder / "root"
    for (name, version), sha256 in PACKAGES.items():
        done = subprocess.run(
            ["apt-get", "download", f"{name}={version}"],
            cwd=folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
        files = list(folder.glob(f"{name}_*.deb"))
        if done.returncode != 0 or not files:
            raise DataError(
                f"apt-get download {name}={version} failed: {done.stderr.strip()}\n"
                "Run apt-get update first; an older version is in Debian's snapshot archive."
            )
        if (found := file_sha256(files[0])) != sha256:
            raise DataError(f"{files[0].name}: sha256 is {found}, expected {sha256}")
        subprocess.run(["dpkg-deb", "-x", str(files[0]), str(root)], check=True)
    return root


def build(max_words: int) -> dict[Split, list[dict[str, str]]]:
    """Runs the whole recipe."""
    with tempfile.TemporaryDirectory() as temporary:
        root = fetch(Path(temporary))
        segments = [*libreoffice_segments(root), *gnome_segments(root)]
    splits = split_segments(segment for segment in segments if is_sentence_pair(segment, max_words))
    train = splits["train"]
    validation = drop_near_duplicates(splits["validation"], train)
    test = drop_near_duplicates(splits["test"], train + validation)
    return {"train": as_rows(train), "validation": as_rows(validation), "test": as_rows(test)}


def main() -> None:
    """Rebuilds, then writes or compares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--max-words", type=int, default=MAX_WORDS, help="longest source")
    parser.add_argument("--check", action="store_true", help="compare with data/, write nothing")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "data")
    options = parser.parse_args()
    rows = build(options.max_words)
    sys.exit(0 if write_or_compare(rows, options.out, compare=options.check) else 1)


if __name__ == "__main__":
    main()
