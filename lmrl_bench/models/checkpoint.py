"""The only place that loads a model: complete, in float32 and evaluation mode, with its tokenizer.

Models that do not load completely are rejected. Only the following may be missing or unused:

* Weights that the library ties to others, and buffers that it computes, may be missing.
* Buffers written by older releases (`position_ids`, rotary frequencies, causal masks) may be
  unused.
* A pooler may be missing if it is not read (encoders), and unused if the model has none.
* The head of another task may be unused when loading a classifier or an encoder; the trunk must be
  complete.
* Everything else is an error that names the weights.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils.hub import cached_file

from lmrl_bench.core.errors import LmrlBenchError, MetricError, PolicyError
from lmrl_bench.models.adapters import put_adapter
from lmrl_bench.models.border import quiet, reported
from lmrl_bench.models.facts import ATTENTION, CONFIG_FACTS
from lmrl_bench.models.files import (
    ADAPTER_CONFIG,
    adapter_base,
    check_base,
    tokenizer_files,
    weight_files,
)
from lmrl_bench.models.fingerprints import model_identity
from lmrl_bench.models.names import resolve_model
from lmrl_bench.models.stored import check_finite, check_stored

_BUFFERS: Final = re.compile(
    r"(^|\.)(position_ids|inv_freq|original_inv_freq|masked_bias|num_batches_tracked)$|(^|\.)attn(\.attention)?\.bias$"
)
"""Constants stored by older releases, now computed by the library."""
_POOLER: Final = re.compile(r"(^|\.)pooler\.")
_LAYER: Final = re.compile(r"\.(\d+)\.")


@dataclass(frozen=True)
class Role:
    """Purpose of loading a model.

    Attributes:
        noun: Name in messages.
        error: Exception type if it cannot be loaded.
        advice: Remedy if weights are missing.
        other_heads: Heads of other tasks may be unused.
        pooler: A pooler is read.
    """

    noun: str
    error: type[LmrlBenchError]
    advice: str
    other_heads: bool = False
    pooler: bool = True


POLICY: Final = Role("policy", PolicyError, "Take a checkpoint with a language-model head")
CAUSAL: Final = Role(
    "model of metric 'perplexity':", MetricError, "Take a checkpoint with a language-model head"
)
CLASSIFIER: Final = Role(
    "classifier", MetricError, "Take a checkpoint that was trained to classify", other_heads=True
)
ENCODER: Final = Role(
    "model of metric 'bertscore':",
    MetricError,
    "Take a whole encoder",
    other_heads=True,
    pooler=False,
)


@dataclass(frozen=True)
class Checkpoint:
    """A loaded model.

    Attributes:
        model: In evaluation mode, float32, on the CPU; its `generation_config` is the checkpoint's.
        tokenizer: Its tokenizer.
        identity: Its name and a digest of the files read.
        folder: Its folder, or None for a hub id.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    identity: str
    folder: Path | None


def load_checkpoint(
    name: str, role: Role, revision: str | None = None, *, layers: int | None = None
) -> Checkpoint:
    """Loads a model and its tokenizer.

    Args:
        name: A shipped policy, a download, a folder, or a hub id.
        role: Purpose of the model.
        revision: Commit of a hub id.
        layers: Number of an encoder's lowest layers to load.

    Raises:
        DownloadError: The download is not installed.
        PolicyError: The model does not exist, or a policy cannot be loaded completely.
        MetricError: A metric's model cannot be loaded completely.
    """
    place = resolve_model(name, revision)
    what = f"the {role.noun} '{name}' ({place})" if place != name else f"the {role.noun} '{name}'"
    folder = Path(place) if Path(place).is_dir() else None
    base = None if folder is None else adapter_base(folder)
    if folder is not None and base is not None:
        model = _load_base(folder, *base, role, layers)
        with quiet():
            put_adapter(model, folder)
    else:
        if folder is None:
            _refuse_adapter_on_hub(place, revision, what, role)
        model = _load_model(place, revision, role, what, layers)
    tokenizer = _read_tokenizer(place, revision, what, role.error)
    return Checkpoint(model.train(False), tokenizer, model_identity(place, revision), folder)


def load_tokenizer(name: str, revision: str | None = None) -> PreTrainedTokenizerBase:
    """Loads only a model's tokenizer.

    Raises:
        DownloadError: The download is not installed.
        PolicyError: The model does not exist, or its tokenizer cannot be read.
    """
    place = resolve_model(name, revision)
    return _read_tokenizer(place, revision, f"the tokenizer of '{name}' ({place})", PolicyError)


def load_part(folder: Path, kind: type[PreTrainedModel]) -> PreTrainedModel:
    """Loads a part of a policy that was saved as a separate model, such as the critic's trunk.

    Raises:
        PolicyError: It cannot be loaded completely.
    """
    return _from_files(kind, str(folder), None, {}, POLICY, f"the folder '{folder}'", None)


def read_config(name: str, role: Role, revision: str | None = None) -> Any:
    """Returns the configuration of a model.

    Raises:
        LmrlBenchError: The model does not exist, or its configuration cannot be read or requires
            something that is not installed.
    """
    place = resolve_model(name, revision)
    return _read_config(place, revision, role, f"the {role.noun} '{name}' ({place})")


def _refuse_adapter_on_hub(place: str, revision: str | None, what: str, role: Role) -> None:
    """Rejects adapters on a hub: the library's own loader drops weights of some kinds."""
    with reported(what, role.error):
        found = cached_file(
            place,
            ADAPTER_CONFIG,
            revision=revision,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
    if found is not None:
        raise role.error(
            f"{what} is an adapter on a hub; download it (hf download {place} --local-dir FOLDER) and use the folder"
        )


def _load_base(
    folder: Path, base: str, revision: str | None, role: Role, layers: int | None
) -> PreTrainedModel:
    place = resolve_model(base, revision)
    check_base(folder, place)
    return _load_model(
        place, revision, role, f"the base '{base}' of the adapter '{folder}'", layers
    )


def _load_model(
    place: str, revision: str | None, role: Role, what: str, layers: int | None
) -> PreTrainedModel:
    config = _read_config(place, revision, role, what)
    if role is POLICY:
        loader: Any = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    else:
        loader = _LOADERS[role]
    cut = {} if layers is None else {"num_hidden_layers": layers}
    if cut:
        config.update(cut)
    model = _from_files(loader, place, revision, {"config": config}, role, what, layers)
    if loader is AutoModelForCausalLM:
        with reported(what, role.error):
            _check_causal(model, what, role)
    return model


_LOADERS: Final[dict[Role, Any]] = {
    CAUSAL: AutoModelForCausalLM,
    CLASSIFIER: AutoModelForSequenceClassification,
    ENCODER: AutoModel,
}


def _read_config(place: str, revision: str | None, role: Role, what: str) -> Any:
    folder = Path(place) if Path(place).is_dir() else None
    with reported(what, role.error, folder):
        config = AutoConfig.from_pretrained(place, revision=revision, trust_remote_code=False)
        parts = [config, *(getattr(config, name, None) for name in config.sub_configs)]
    for part in parts:
        refused = _refused_fact(part)
        if refused is not None:
            name, value = refused
            raise role.error(
                f"{what}: config.json sets {name} ({value}): {CONFIG_FACTS[name].reason}"
            )
    config.return_dict = True
    with reported(what, role.error):
        config.output_hidden_states = config.output_attentions = False
    return config


def _refused_fact(config: Any) -> tuple[str, str] | None:
    """Returns name and value of the first setting of a configuration that cannot be honored."""
    quantization = getattr(config, "quantization_config", None)
    if quantization:
        settings = quantization if isinstance(quantization, dict) else vars(quantization)
        return "quantization_config", str(settings.get("quant_method"))
    if getattr(config, "transformers_weights", None):
        return "transformers_weights", str(config.transformers_weights)
    attention = getattr(config, "_attn_implementation", None)
    return None if attention in ATTENTION else ("attn_implementation", str(attention))


def _from_files(
    loader: Any,
    place: str,
    revision: str | None,
    options: dict[str, Any],
    role: Role,
    what: str,
    layers: int | None,
) -> PreTrainedModel:
    """Reads and checks the weights; `ignore_mismatched_sizes` lets the check name mismatches."""
    folder = Path(place) if Path(place).is_dir() else None
    if folder is not None:
        weight_files(folder)
    with quiet(), reported(what, role.error, folder):
        model, report = loader.from_pretrained(
            place,
            revision=revision,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **({"trust_remote_code": False} if hasattr(loader, "_model_mapping") else {}),
            **options,
        )
        model = model.float().eval()
    _check_complete(model, report, role, what, layers)
    check_finite(model.state_dict(), what, role.error)
    if folder is not None:
        with reported(what, role.error, folder):
            check_stored(weight_files(folder), model, model.base_model_prefix, what, role.error)
    loaded: PreTrainedModel = model
    return loaded


def _check_complete(
    model: PreTrainedModel, report: dict[str, Any], role: Role, what: str, layers: int | None
) -> None:
    name = type(model).__name__
    missing = sorted(report["missing_keys"])
    if not role.pooler:
        missing = [key for key in missing if not _POOLER.search(key)]
    if missing:
        raise role.error(
            f"{what} lacks {len(missing)} weights of {name}, such as '{missing[0]}'{_more(missing)}; they would "
            f"be random. {role.advice}"
        )
    mismatched = sorted(report["mismatched_keys"])
    if mismatched:
        key, stored, wanted = mismatched[0]
        raise role.error(
            f"{what} has {len(mismatched)} weights whose shape differs from config.json, such as '{key}' "
            f"({tuple(stored)} in the file, {tuple(wanted)} in {name}); restore the config.json of these weights"
        )
    left_over = sorted(
        key for key in report["unexpected_keys"] if not _may_be_left(key, model, role, layers)
    )
    if left_over:
        raise role.error(
            f"{what} has {len(left_over)} weights that {name} does not use, such as '{left_over[0]}'"
            f"{_more(left_over)}; they would be dropped. Restore the config.json of these weights, or save the model "
            "without them"
        )


def _more(names: Iterable[str]) -> str:
    rest = [f"'{name}'" for name in list(names)[1:4]]
    return f", then {', '.join(rest)}" if rest else ""


def _may_be_left(key: str, model: PreTrainedModel, role: Role, layers: int | None) -> bool:
    """Returns whether a weight of the file may be unused; see the module docstring."""
    if _BUFFERS.search(key) or _POOLER.search(key):
        return True
    number = _LAYER.search(key)
    if layers is not None and number is not None and int(number[1]) >= layers:
        return True
    trunk = {name for name, _ in model.named_children()} | {model.base_model_prefix}
    return role.other_heads and key.split(".")[0] not in trunk


@torch.no_grad()
def _check_causal(model: Any, what: str, role: Role) -> None:
    """Rejects models that see tokens to their right, such as masked ones under a causal head."""
    width = model.config.get_text_config().vocab_size
    ids = (torch.arange(8) + width // 2).unsqueeze(0) % width
    other = ids.clone()
    other[0, 4:] = ids[0, :4]
    before, after = (model(input_ids=row, use_cache=False).logits[:, :4] for row in (ids, other))
    if not bool((before - after).abs().max() <= 1e-4 * before.abs().max()):
        raise role.error(
            f"{what}: {type(model).__name__} uses tokens to the right of the one it predicts, so it is not a causal "
            "language model; choose one that is (a BERT needs is_decoder: true and training for it)"
        )


def _read_tokenizer(
    place: str, revision: str | None, what: str, kind: type[LmrlBenchError]
) -> PreTrainedTokenizerBase:
    """Reads the tokenizer of a folder or hub id; an adapter without one uses its base's."""
    folder = Path(place) if Path(place).is_dir() else None
    if folder is not None and not tokenizer_files(folder):
        base = adapter_base(folder)
        if base is not None:
            return _read_tokenizer(resolve_model(*base), base[1], what, kind)
    with quiet(), reported(f"the tokenizer of {what}", kind, folder):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            place, revision=revision, trust_remote_code=False
        )
        needed = sorted({"tokenizer.json", *type(tokenizer).vocab_files_names.values()})
        made_of_files = bool(type(tokenizer).vocab_files_names)  # ByT5 needs no files
    if folder is not None and made_of_files and not _any_file(folder, needed):
        raise kind(
            f"{what} has no tokenizer: none of {', '.join(needed)} is in the folder; add them"
        )
    return tokenizer


def _any_file(folder: Path, names: Iterable[str]) -> bool:
    return any((folder / name).is_file() for name in names)
