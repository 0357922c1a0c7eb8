"""Reading and writing policies: a plain Hugging Face folder with the critic beside it.

`from_pretrained` reads the folder as it is; `value_head.safetensors` and `value_trunk/` are ours.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from lmrl_bench.errors import PolicyError
from lmrl_bench.models.names import resolve_model
from lmrl_bench.policies.adapter import base_of, has_adapter, read_adapter
from lmrl_bench.policies.causal import CausalNetwork
from lmrl_bench.policies.networks import Network
from lmrl_bench.policies.probe import check_network
from lmrl_bench.policies.seq2seq import Seq2SeqNetwork
from lmrl_bench.text.vocabulary import Vocabulary

ValueTrunk = Literal["shared", "separate", "frozen"]
HEAD_FILE = "value_head.safetensors"
TRUNK_FOLDER = "value_trunk"


def read_model(
    name: str, revision: str | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, Path | None]:
    """Loads model and tokenizer, weights as float32.

    Args:
        name: A shipped policy, an asset, a folder, or a hub id.
        revision: Commit of a hub id.

    Returns:
        Model, tokenizer, and the folder (None for a hub id).

    Raises:
        AssetError: The asset is not installed.
        PolicyError: There is no such model, or it cannot be read.
    """
    place = resolve_model(name, revision)
    base = base_of(Path(place))
    if base is not None:
        return _read_with_adapter(Path(place), base, revision)
    try:
        config = AutoConfig.from_pretrained(place, revision=revision)
        loader: Any = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
        with no_progress_bars():
            model, report = loader.from_pretrained(
                place, revision=revision, dtype=torch.float32, output_loading_info=True
            )
        tokenizer = AutoTokenizer.from_pretrained(place, revision=revision)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise PolicyError(f"the policy '{name}' ({place}) cannot be read: {reason}") from error
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise PolicyError(
            f"the policy '{name}' ({place}) lacks {len(missing)} weights of "
            f"{type(model).__name__}, the first is '{missing[0]}'; they would be random. Take a "
            "checkpoint with a language-model head"
        )
    return model, tokenizer, Path(place) if Path(place).is_dir() else None


def _read_with_adapter(
    folder: Path, base: str, revision: str | None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, Path]:
    model, tokenizer, _ = read_model(base, revision)
    with no_progress_bars():
        read_adapter(model, folder)
    return model, tokenizer, folder


def output_width(model: PreTrainedModel) -> int:
    """Returns the number of logits.

    Raises:
        PolicyError: The model has no output layer.
    """
    head = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    if not isinstance(head, nn.Linear):
        raise PolicyError(
            f"{type(model).__name__} has no linear output layer; choose a model with a "
            "language-model head"
        )
    return int(head.weight.shape[0])


def make_network(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, vocabulary: Vocabulary
) -> Network:
    """Returns the model as a network, checked.

    Raises:
        PolicyError: Model and tokenizer do not fit together, or the model is not scored as it
            decodes.
    """
    output_width(model)
    kind = Seq2SeqNetwork if model.config.is_encoder_decoder else CausalNetwork
    network = kind(model, vocabulary.pad_id)
    if vocabulary.width > network.width:
        raise PolicyError(
            f"the tokenizer '{tokenizer.name_or_path}' has {len(vocabulary.ids)} tokens and the model only "
            f"{network.width} outputs (the largest id is {vocabulary.width - 1}); take the tokenizer that "
            "belongs to the model, or call model.resize_token_embeddings (new rows need training)"
        )
    _forget_generation_settings(model, vocabulary)
    check_network(network)
    return network


def check_positions(network: Network, max_prompt_tokens: int, max_response_tokens: int) -> None:
    """Checks that prompt and response fit the model's positions.

    Raises:
        PolicyError: They do not.
    """
    limit = getattr(network.model.config, "max_position_embeddings", None)
    if limit is None:
        return
    needed = max_prompt_tokens + max_response_tokens
    if network.kind == "seq2seq":
        needed = max(max_prompt_tokens, max_response_tokens + 1)
    if needed > limit:
        raise PolicyError(
            f"{type(network.model).__name__} has {limit} positions; prompts of {max_prompt_tokens} "
            f"and responses of {max_response_tokens} tokens need {needed}. Lower prompt.max_tokens "
            "or response.max_tokens in task.yaml, or choose a policy with more positions"
        )


def write_policy(
    folder: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    value_head: nn.Linear,
    value_mode: ValueTrunk,
    value_trunk: PreTrainedModel | None,
) -> None:
    """Writes the policy's folder; an older folder of that name is replaced when all is written."""

    def write(place: Path) -> None:
        with no_progress_bars():
            model.save_pretrained(place)
            if has_adapter(model):  # only the adapter was written
                model.config.save_pretrained(place)
            if value_trunk is not None:
                value_trunk.save_pretrained(place / TRUNK_FOLDER)
        tokenizer.save_pretrained(place)
        tensors = {name: value.detach().cpu() for name, value in value_head.state_dict().items()}
        save_file(tensors, place / HEAD_FILE, metadata={"trunk": _trunk_of(value_mode)})

    replace_folder(folder, write)


def read_value_head(folder: Path, value_mode: ValueTrunk, head: nn.Linear) -> None:
    """Fills the value head from the folder, if it has one.

    Raises:
        PolicyError: The head was trained on another trunk.
    """
    file = folder / HEAD_FILE
    if not file.is_file():
        return
    with safe_open(file, framework="pt") as stored:
        trunk = stored.metadata()["trunk"]
        if trunk != _trunk_of(value_mode):
            fitting = "separate" if trunk == "separate" else "shared"
            raise PolicyError(
                f"{file}: the value head was trained on the {trunk} trunk, and value_trunk is "
                f"'{value_mode}'; use policy.value_trunk={fitting}, or delete the file to start "
                "with an untrained critic"
            )
        head.load_state_dict({name: stored.get_tensor(name) for name in stored.keys()})  # noqa: SIM118


def read_value_trunk(folder: Path, trunk: PreTrainedModel) -> None:
    """Fills the separate value trunk from the folder, if it has one."""
    if (folder / TRUNK_FOLDER).is_dir():
        with no_progress_bars():
            stored = type(trunk).from_pretrained(folder / TRUNK_FOLDER, dtype=torch.float32)
        trunk.load_state_dict(stored.state_dict())


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Keeps the library's bars for single files out of the program's own output."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def _trunk_of(value_mode: ValueTrunk) -> str:
    """Shared and frozen heads sit on the same trunk."""
    return "separate" if value_mode == "separate" else "policy's"


def _forget_generation_settings(model: PreTrainedModel, vocabulary: Vocabulary) -> None:
    """Drops what the checkpoint says about generation (penalties, top-k, …) but the tokens."""
    start = getattr(model.config, "decoder_start_token_id", None)
    if start is None:
        start = model.generation_config.decoder_start_token_id
    ends = list(vocabulary.eos_ids)
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        eos_token_id=vocabulary.eos_id if len(ends) == 1 else ends,
        pad_token_id=vocabulary.pad_id,
        bos_token_id=getattr(model.config, "bos_token_id", None),
        decoder_start_token_id=start,
    )


def replace_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Writes a folder beside its place and then puts it there, in place of an older one."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        write(place)
        place.chmod(0o755)
        if folder.exists():
            old = place.with_name(f"{place.name}-old")
            folder.replace(old)
            place.replace(folder)
            shutil.rmtree(old)
        else:
            place.replace(folder)
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
