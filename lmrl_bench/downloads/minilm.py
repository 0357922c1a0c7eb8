"""Converts MiniLM: the published folder, with a tokenizer that supports batches of any length.

Like every converter, it modifies the folder of unpacked members in place; the folder is moved to
the cache only if it succeeds.
"""

from __future__ import annotations

import json
from pathlib import Path


def convert(folder: Path) -> None:
    """Removes padding and truncation from the tokenizer's file.

    The published `tokenizer.json` truncates to 128 tokens and pads *every* text to 128, even in
    `AutoTokenizer` calls that request neither. The limit becomes the model's 512 positions.
    """
    tokenizer_file = folder / "tokenizer.json"
    tokenizer = json.loads(tokenizer_file.read_text(encoding="utf-8"))
    tokenizer["truncation"] = None
    tokenizer["padding"] = None
    tokenizer_file.write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")
    config_file = folder / "tokenizer_config.json"
    config = json.loads(config_file.read_text(encoding="utf-8"))
    config["model_max_length"] = 512
    config_file.write_text(json.dumps(config, indent=2), encoding="utf-8")
