"""Reads and writes policies: a Hugging Face folder, plus files for the critic.

`from_pretrained` can read the folder; `value_head.safetensors` and `value_trunk/` are specific to
this package.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from lmrl_bench.core.atomic import replace_folder
from lmrl_bench.core.errors import PolicyError
from lmrl_bench.data.vocabulary import Vocabulary, control_tokens, end_tokens
from lmrl_bench.models.border import quiet, reported
from lmrl_bench.models.causal import CausalNetwork
from lmrl_bench.models.checkpoint import POLICY, load_checkpoint, load_part
from lmrl_bench.models.facts import CONFIG_FACTS, refused_generation_fact
from lmrl_bench.models.files import CONFIG, HEAD_FILE, TRUNK_FOLDER, read_json
from lmrl_bench.models.limits import position_limits
from lmrl_bench.models.networks import Network
from lmrl_bench.models.seq2seq import Seq2SeqNetwork
from lmrl_bench.models.stored import check_finite

ValueTrunk = Literal["shared", "separate", "frozen"]


def read_model(
    name: str, revision: str | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, Path | None]:
    """Loads model and tokenizer, with float32 weights.

    Args:
        name: A shipped policy, a download, a folder, or a hub id.
        revision: Commit of a hub id.

    Returns:
        The model with its original generation settings, the tokenizer, and the folder (None for a
        hub id).

    Raises:
        DownloadError: The download is not installed.
        PolicyError: The model does not exist or cannot be read.
    """
    loaded = load_checkpoint(name, POLICY, revision)
    refused = refused_generation_fact(
        vars(loaded.model.generation_config),
        encoder_decoder=loaded.model.config.is_encoder_decoder,
        control_ids=frozenset(control_tokens(loaded.tokenizer).values()),
    )
    if refused is not None:
        field, reason = refused
        raise PolicyError(
            f"the policy '{name}': its generation settings have {field}: {reason}. Correct the field in "
            "generation_config.json, or remove it if the policy works without it"
        )
    return loaded.model, loaded.tokenizer, loaded.folder


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
    """Wraps the model as a network; `models.probe` checks it at the lengths of a task.

    Raises:
        PolicyError: Model and tokenizer do not match.
    """
    width = output_width(model)
    largest = max(vocabulary.width - 1, vocabulary.pad_id)
    # Checked before the first forward, which would fail inside torch without a word about tokens.
    if largest >= width:
        raise PolicyError(
            f"the tokenizer '{tokenizer.name_or_path}' has {len(vocabulary.ids)} tokens, but the model has only "
            f"{width} outputs (the largest id is {largest}); use the tokenizer that belongs to the model with all "
            "its files (tokenizer_config.json names the special tokens), or call model.resize_token_embeddings "
            "(new rows need training)"
        )
    kind = Seq2SeqNetwork if model.config.is_encoder_decoder else CausalNetwork
    with reported(type(model).__name__, PolicyError):
        network = kind(model, vocabulary.pad_id)
    _check_tokens(model, network, vocabulary)
    _forget_generation_settings(model, vocabulary)
    return network


def _check_tokens(model: PreTrainedModel, network: Network, vocabulary: Vocabulary) -> None:
    """Checks that model and tokenizer agree on the first and last tokens of completions."""
    name = type(model).__name__
    named = end_tokens((model.generation_config, model.config))
    unknown = [end for end in named if 0 <= end < network.width and end not in vocabulary.ids]
    if unknown:
        raise PolicyError(
            f"{name} ends completions with the token {unknown[0]} (eos_token_id), which its tokenizer lacks, so "
            "a policy could never generate it; use the tokenizer that belongs to the model, or correct the field"
        )
    if not isinstance(network, Seq2SeqNetwork):
        return
    starts = [
        getattr(settings, "decoder_start_token_id", None)
        for settings in (model.config, model.generation_config)
    ]
    if None not in starts and starts[0] != starts[1]:
        raise PolicyError(
            f"{name} starts completions with the token {starts[0]} in config.json, but with {starts[1]} in "
            "generation_config.json (decoder_start_token_id); correct one of them"
        )
    forced = network.start_ids[1:]
    if set(forced) & set(vocabulary.eos_ids):
        raise PolicyError(
            f"{name} forces the first token {forced[0]} (forced_bos_token_id), which ends a completion, so every "
            "completion would be empty; correct the field in generation_config.json"
        )


def check_positions(network: Network, max_prompt_tokens: int, max_completion_tokens: int) -> None:
    """Checks that prompt and completion fit the model's positions.

    Raises:
        PolicyError: They do not, or the model cannot read that many tokens for another reason.
    """
    limits = position_limits(network.model)
    sides = [("prompts", max_prompt_tokens, limits.prompt)]
    if network.kind == "causal":
        sides = [
            ("prompts and completions", max_prompt_tokens + max_completion_tokens, limits.prompt)
        ]
    else:  # the decoder also reads its start token
        sides.append(("completions", max_completion_tokens + 1, limits.completion))
    for what, needed, limit in sides:
        if limit is not None and needed > limit:
            raise PolicyError(
                f"{type(network.model).__name__} has {limit} positions for {what}; prompts of {max_prompt_tokens} "
                f"and completions of {max_completion_tokens} tokens need {needed}. Lower prompt.max_tokens "
                "or completion.max_tokens in task.yaml, or choose a policy with more positions"
            )


def write_policy(
    folder: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    save_critic: Callable[[Path], None],
) -> None:
    """Writes the policy's folder; an existing one is replaced once everything is written."""

    def write(place: Path) -> None:
        with quiet():
            # With an adapter, saves only the adapter: if there were a config.json, the library
            # would expect the full weights.
            model.save_pretrained(place)
        tokenizer.save_pretrained(place)
        save_critic(place)

    replace_folder(folder, write)


def write_value_head(
    folder: Path, head: nn.Linear, value_mode: ValueTrunk, trunk: PreTrainedModel | None
) -> None:
    """Writes a value head, and the trunk of its own if it has one, into the policy's folder."""
    if trunk is not None:
        with quiet():
            trunk.save_pretrained(folder / TRUNK_FOLDER)
    tensors = {name: value.detach().cpu() for name, value in head.state_dict().items()}
    save_file(tensors, folder / HEAD_FILE, metadata={"trunk": _trunk_of(value_mode)})


def read_value_head(folder: Path, value_mode: ValueTrunk, head: nn.Linear) -> None:
    """Loads the value head from the folder, if it has one.

    Raises:
        PolicyError: The head was trained on another trunk.
    """
    file = folder / HEAD_FILE
    if not file.is_file():
        if (folder / TRUNK_FOLDER).is_dir():
            raise PolicyError(
                f"folder '{folder}' has the critic's trunk ({TRUNK_FOLDER}) without its head ({HEAD_FILE}); copy the "
                "folder again, or delete the trunk to start with an untrained critic"
            )
        return
    what = f"the value head '{file}'"
    with reported(what, PolicyError, folder), safe_open(file, framework="pt") as stored:
        trunk = (stored.metadata() or {}).get("trunk")
        state = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    if trunk is None:
        raise PolicyError(
            f"{what} does not name the trunk it was trained on; delete it or save it again"
        )
    if trunk != _trunk_of(value_mode):
        fitting = "separate" if trunk == "separate" else "shared"
        raise PolicyError(
            f"{file}: the value head was trained on the {trunk} trunk, but value_trunk is "
            f"'{value_mode}'; use policy.value_trunk={fitting}, or delete the file to start "
            "with an untrained critic"
        )
    check_finite(state, what, PolicyError)
    with reported(what, PolicyError):
        head.load_state_dict(state)


def read_value_trunk(folder: Path, trunk: PreTrainedModel) -> None:
    """Loads the separate value trunk from the folder, if it has one.

    Raises:
        PolicyError: The trunk is missing although its head exists, cannot be loaded completely, or
            has other settings than the policy's.
    """
    place = folder / TRUNK_FOLDER
    if not place.is_dir():
        if (folder / HEAD_FILE).is_file():
            raise PolicyError(
                f"folder '{folder}' has the critic's head ({HEAD_FILE}) without the trunk it was trained on "
                f"({TRUNK_FOLDER}); copy the folder again, or delete the head to start with an untrained critic"
            )
        return
    stored = load_part(place, type(trunk))
    other = _other_settings(read_json(place / CONFIG), trunk.config.to_dict())
    if other:
        raise PolicyError(
            f"the value trunk '{place}' was saved with other settings than the policy ({', '.join(other[:3])} in "
            f"config.json), so it would compute different values; restore its {CONFIG}"
        )
    with reported(f"the value trunk '{place}'", PolicyError):
        trunk.load_state_dict(stored.state_dict())


def _other_settings(stored: dict[str, Any], own: dict[str, Any]) -> list[str]:
    """Returns the names of settings that differ and may affect the computation."""
    return sorted(
        name
        for name in stored.keys() & own.keys()
        if stored[name] != own[name]
        and not name.endswith(("_token_id", "dropout", "use_cache"))
        and (name == "model_type" or name not in CONFIG_FACTS)
    )


def _trunk_of(value_mode: ValueTrunk) -> str:
    """Returns the trunk of a value head; shared and frozen heads use the policy's."""
    return "separate" if value_mode == "separate" else "policy's"


def _forget_generation_settings(model: PreTrainedModel, vocabulary: Vocabulary) -> None:
    """Drops the checkpoint's generation settings (penalties, top-k, …) except its tokens."""
    start = getattr(model.config, "decoder_start_token_id", None)
    if start is None:
        start = model.generation_config.decoder_start_token_id
    ends = list(vocabulary.eos_ids)
    forced = model.generation_config.forced_bos_token_id
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        eos_token_id=vocabulary.eos_id if len(ends) == 1 else ends,
        pad_token_id=vocabulary.pad_id,
        bos_token_id=getattr(model.config, "bos_token_id", None),
        decoder_start_token_id=start,
        forced_bos_token_id=forced,
        bad_words_ids=[[number] for number in sorted(vocabulary.forbidden_ids)] or None,
    )
