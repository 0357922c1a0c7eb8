"""Input of all sides of a comparison: the same model, tokenizer and prompts, written once into a folder.

The text that tokenizer and prompts are made of is the documentation that comes with Python.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.workloads import Workload

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PROMPTS = 256
NAME = "share-of-e"
_PLUGIN = '''"""The reward of the performance workloads: the share of the letter e."""

import numpy as np

from lmrl_bench.rewards.base import RewardFunction, RewardOutput


class ShareOfE(RewardFunction):
    name = signature = "share-of-e"

    def __call__(self, batch):
        shares = [text.count("e") / max(len(text), 1) for text in batch.completions]
        return RewardOutput(np.array(shares))


REWARDS = {"share-of-e": ShareOfE}
'''


class Material:
    """A workload's folder, opened. Needs torch and transformers only.

    Args:
        folder: What `make_material` wrote.

    Attributes:
        workload: the workload.
        prompts: the prompts' texts.
        model_folder: model and tokenizer.
        task_folder: the same as a task of this package.
    """

    def __init__(self, folder: Path) -> None:
        stored = json.loads((folder / "workload.json").read_text(encoding="utf-8"))
        self.prompts: list[str] = stored.pop("prompts")
        self.workload = Workload(**stored | {"prompt_tokens": tuple(stored["prompt_tokens"])})
        self.model_folder = folder / "model"
        self.task_folder = folder / NAME

    def model(self) -> PreTrainedModel:
        """Returns the model in fp32."""
        import torch
        from transformers import AutoModelForCausalLM

        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            self.model_folder, dtype=torch.float32
        )
        return model

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Returns the tokenizer, which pads on the left."""
        from transformers import AutoTokenizer

        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            self.model_folder, padding_side="left"
        )
        return tokenizer


def share_of_e(text: str) -> float:
    """Returns the reward of a completion."""
    return text.count("e") / max(len(text), 1)


def make_material(workload: Workload, folder: Path) -> Material:
    """Writes a workload's model, prompts and task into a new folder.

    Raises:
        DownloadError: The workload's model is a download that is not installed.
    """
    folder.mkdir(parents=True)
    tokenizer = _write_model(workload, folder / "model")
    prompts = list(_prompts(workload, tokenizer))
    stored = asdict(workload) | {"prompts": prompts}
    (folder / "workload.json").write_text(json.dumps(stored), encoding="utf-8")
    _write_task(workload, prompts, folder / NAME)
    return Material(folder)


def _write_model(workload: Workload, folder: Path) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    if workload.architecture == "smollm2-135m":
        from lmrl_bench.downloads import download_path

        shutil.copytree(download_path(workload.architecture), folder)
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
        return tokenizer
    import torch
    from transformers import AutoModelForCausalLM

    tokenizer = _trained_tokenizer(workload.vocabulary)
    torch.manual_seed(0)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
        _model_config(workload, tokenizer), dtype=torch.float32
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return tokenizer


def _trained_tokenizer(vocabulary: int) -> PreTrainedTokenizerBase:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<pad>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(_texts(), trainer)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend, pad_token="<pad>", eos_token="</s>", padding_side="left"
    )


def _model_config(workload: Workload, tokenizer: PreTrainedTokenizerBase) -> Any:
    from transformers import GPT2Config, LlamaConfig

    ids: dict[str, Any] = {
        "vocab_size": workload.vocabulary,
        "bos_token_id": tokenizer.eos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    if workload.architecture == "gpt2":
        return GPT2Config(
            n_positions=256,
            n_layer=workload.layers,
            n_embd=workload.width,
            n_head=workload.heads,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            **ids,
        )
    return LlamaConfig(
        max_position_embeddings=256,
        num_hidden_layers=workload.layers,
        hidden_size=workload.width,
        num_attention_heads=workload.heads,
        intermediate_size=workload.inner,
        **ids,
    )


def _prompts(workload: Workload, tokenizer: PreTrainedTokenizerBase) -> Iterator[str]:
    """Yields stretches of text whose encoding has a number of tokens within the workload's bounds."""
    rng = random.Random(0)
    shortest, longest = workload.prompt_tokens
    ids = tokenizer(" ".join("\n".join(_texts()).split()), verbose=False)["input_ids"]
    found = 0
    for start in range(0, len(ids) - longest, longest):
        wanted = ids[start : start + rng.randint(shortest, longest)]
        text = str(tokenizer.decode(wanted)).strip()
        if found < PROMPTS and len(tokenizer(text)["input_ids"]) == len(wanted):
            found += 1
            yield text


def _texts() -> Iterator[str]:
    from pydoc_data.topics import topics

    yield from topics.values()


def _write_task(workload: Workload, prompts: list[str], folder: Path) -> None:
    folder.mkdir()
    (folder / "plugin.py").write_text(_PLUGIN, encoding="utf-8")
    for split in ("train", "validation", "test"):
        rows = [
            json.dumps({"id": f"{split}-{number}", "prompt": prompt, "references": "e"})
            for number, prompt in enumerate(prompts)
        ]
        (folder / f"{split}.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (folder / "task.yaml").write_text(json.dumps(_task(workload)), encoding="utf-8")


def _task(workload: Workload) -> dict[str, Any]:
    """The task's definition; EOS is impossible before the last token, so every completion is of one length."""
    files = {split: {"path": f"{split}.jsonl"} for split in ("train", "validation", "test")}
    completion = workload.completion_tokens
    return {
        "schema": 1,
        "name": NAME,
        "version": 1,
        "summary": "Write the letter e.",
        "license": "PSF-2.0",
        "data": {"reader": "jsonl", "id": "id", **files},
        "prompt": {"max_tokens": workload.prompt_tokens[1]},
        "completion": {"max_tokens": completion, "min_tokens": completion - 1},
        "reward": {"terms": [{"name": NAME}]},
        "metrics": {"primary": {"name": "chrf"}, "held_out": [{"name": "length"}]},
        "policy": {"default": "nano-causal", "kinds": ["causal"]},
    }
