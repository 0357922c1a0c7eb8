"""Rebuilds `data/*.jsonl.gz` from Debian's package index. Requires a Debian system (apt-get).

    python tasks/debian-synopsis/build.py --check        # rebuild and compare with data/
    python tasks/debian-synopsis/build.py --any-release  # from a later point release: other data

The index of Debian 12 has section and source package; `Translation-en` has the synopsis and the
long description. apt runs with its own configuration in a temporary folder, because container
images often disable translations; the system is not changed.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from lmrl_bench.core.errors import DataError
from lmrl_bench.tasks.spec import SPLITS, Split
from lmrl_bench.tasks.writing import split_of, write_or_compare

SUITE = "bookworm"
RELEASE = "12.15 (2026-07-11)"
INDEXES = {  # sha256 of the uncompressed files
    "binary-amd64_Packages": "515e692f2c4121c6fcec444ef100cc18f79a991910615f3a88c8b7becfc94d2f",
    "i18n_Translation-en": "62f59c3cdca9786e4f7adf9002f9f5729a684adcb4667e58e448dec9b5a46c7f",
}

# Families of packages whose synopsis follows a pattern.
SECTIONS_LEFT_OUT = frozenset(
    [
        "debug",
        "doc",
        "fonts",
        "golang",
        "haskell",
        "introspection",
        "javascript",
        "kernel",
        "libdevel",
        "localization",
        "metapackages",
        "ocaml",
        "oldlibs",
        "perl",
        "php",
        "ruby",
        "rust",
        "tasks",
    ]
)
NAMES_LEFT_OUT = re.compile(
    r"-(dev|doc|docs|cross|prof|data|common|dbg|dbgsym|examples|l10n|tests?|all|desktop|source|html"
    r"|gnu|gnuabi64|msgs|udeb)$|-(aarch64|arm|mips|powerpc|riscv|s390|sparc|i686|x86)|^lib.*\d$|^task-|^gir1"
)
MIN_DOCUMENT_WORDS, MAX_DOCUMENT_WORDS = 30, 350
MIN_SUMMARY_WORDS, MAX_SUMMARY_WORDS = 4, 14
OPENING_WORDS = 20


class Package(NamedTuple):
    """One binary package with its English texts."""

    name: str
    source: str
    section: str
    summary: str
    document: str


def fetch(folder: Path, any_release: bool) -> dict[str, str]:
    """Downloads the two index files and returns their texts."""
    parts, lists = folder / "parts", folder / "lists"
    parts.mkdir()
    (lists / "partial").mkdir(parents=True)
    for part in Path("/etc/apt/apt.conf.d").iterdir():
        if "no-languages" not in part.name:
            shutil.copy(part, parts)
    configuration = folder / "apt.conf"
    configuration.write_text(
        f'Dir::Etc::Parts "{parts}";\nDir::State::lists "{lists}";\n'
        'Acquire::Languages { "en"; };\nAPT::Sandbox::User "root";\n'
    )
    environment = {**os.environ, "APT_CONFIG": str(configuration)}
    done = subprocess.run(
        ["apt-get", "update"], env=environment, capture_output=True, text=True, check=False
    )
    texts = {name: _index(lists, name) for name in INDEXES}
    for name, text in texts.items():
        found = hashlib.sha256(text).hexdigest()
        if not text:
            raise DataError(f"apt-get update brought no {SUITE} {name}: {done.stderr.strip()}")
        if found != INDEXES[name] and not any_release:
            raise DataError(
                f"{name}: sha256 is {found}, expected {INDEXES[name]} (Debian {RELEASE}); "
                "take that release from Debian's snapshot archive, or set --any-release"
            )
    return {name: text.decode() for name, text in texts.items()}


def _index(lists: Path, name: str) -> bytes:
    for path in lists.glob(f"*_dists_{SUITE}_main_{name}*"):
        command = ["/usr/lib/apt/apt-helper", "cat-file", str(path)]
        return subprocess.run(command, capture_output=True, check=True).stdout
    return b""


def stanzas(text: str) -> Iterator[dict[str, str]]:
    """Yields the stanzas of a Debian control file; continuation lines lose their first space."""
    for stanza in text.split("\n\n"):
        fields: dict[str, str] = {}
        key = ""
        for line in stanza.splitlines():
            if line.startswith(" "):
                fields[key] += "\n" + line[1:]
            else:
                key, _, value = line.partition(":")
                fields[key] = value.strip()
        if fields:
            yield fields


def packages(index: str, translation: str) -> Iterator[Package]:
    """Joins the two files on the digest of the description."""
    descriptions = {row["Description-md5"]: row["Description-en"] for row in stanzas(translation)}
    for row in stanzas(index):
        summary, _, body = descriptions.get(row["Description-md5"], "").partition("\n")
        paragraphs = [line for line in body.splitlines() if line.strip() != "."]
        yield Package(
            name=row["Package"],
            source=row.get("Source", row["Package"]).split()[0],
            section=row["Section"],
            summary=" ".join(summary.split()),
            document=" ".join(" ".join(paragraphs).split()),
        )


def is_wanted(package: Package) -> bool:
    """Returns whether the synopsis is written by a person and not copied from the description."""
    words, summary_words = len(package.document.split()), len(package.summary.split())
    return (
        package.section not in SECTIONS_LEFT_OUT
        and not NAMES_LEFT_OUT.search(package.name)
        and MIN_DOCUMENT_WORDS <= words <= MAX_DOCUMENT_WORDS
        and MIN_SUMMARY_WORDS <= summary_words <= MAX_SUMMARY_WORDS
        and package.summary.casefold() not in package.document.casefold()
    )


def one_of_each(found: list[Package]) -> list[Package]:
    """Chooses one package per source: the one with the same name, or else the first.

    A synopsis, or the beginning of a text (what is left of a truncated prompt), occurs only once.
    """
    sources: dict[str, list[Package]] = defaultdict(list)
    for package in sorted(found):
        sources[package.source].append(package)
    seen: set[str] = set()
    chosen = []
    for source, candidates in sorted(sources.items()):
        named = [package for package in candidates if package.name in {source, f"python3-{source}"}]
        package = (named or candidates)[0]
        opening = " ".join(package.document.casefold().split()[:OPENING_WORDS])
        if opening not in seen and package.summary.casefold() not in seen:
            chosen.append(package)
        seen |= {opening, package.summary.casefold()}
    return chosen


def as_rows(chosen: list[Package]) -> dict[Split, list[dict[str, str]]]:
    """Splits by source package, ordered by a hash, so the first n rows are a random sample."""
    rows: dict[Split, list[dict[str, str]]] = {split: [] for split in SPLITS}
    for package in sorted(chosen, key=lambda package: hashlib.sha1(package.name.encode()).digest()):
        rows[split_of(package.source)].append(
            {
                "package": package.name,
                "section": package.section,
                "document": package.document,
                "summary": package.summary,
            }
        )
    return rows


def build(any_release: bool) -> dict[Split, list[dict[str, str]]]:
    """Runs the whole recipe."""
    with tempfile.TemporaryDirectory() as temporary:
        texts = fetch(Path(temporary), any_release)
    found = packages(texts["binary-amd64_Packages"], texts["i18n_Translation-en"])
    return as_rows(one_of_each([package for package in found if is_wanted(package)]))


def main() -> None:
    """Rebuilds, then writes or compares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--any-release", action="store_true", help="do not check the index files")
    parser.add_argument("--check", action="store_true", help="compare with data/, write nothing")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "data")
    options = parser.parse_args()
    rows = build(options.any_release)
    sys.exit(0 if write_or_compare(rows, options.out, compare=options.check) else 1)


if __name__ == "__main__":
    main()
