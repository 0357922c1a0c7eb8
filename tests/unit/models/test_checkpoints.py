"""Every model is loaded whole, in evaluation mode and float32, or refused in one message; no library speaks past it."""

from __future__ import annotations

import logging

import pytest
import torch
from fixtures.checkpoints import edit, write
from fixtures.encoders import write_encoder
from fixtures.toy import tiny_seq2seq, toy_tokenizer
from safetensors.torch import load_file, save_file
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertLMHeadModel,
    LlamaConfig,
    LlamaForSequenceClassification,
)

from lmrl_bench.core.errors import LmrlBenchError, MetricError, PolicyError
from lmrl_bench.data.sample import Sample
from lmrl_bench.metrics import make_metric
from lmrl_bench.models.checkpoint import (
    CAUSAL,
    CLASSIFIER,
    ENCODER,
    POLICY,
    load_checkpoint,
    load_tokenizer,
)
from lmrl_bench.policies.policy import LanguageModelPolicy

SHAPE = {
    "vocab_size": 48, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 32, "max_position_embeddings": 32, "pad_token_id": 0,
}  # fmt: skip
LIMITS = {"max_prompt_tokens": 8, "max_completion_tokens": 8}
SAMPLES = [Sample("0", "the house", ("x",), {})] * 2


def put(folder, model):
    torch.manual_seed(0)
    model.save_pretrained(folder)
    toy_tokenizer().save_pretrained(folder)
    return str(folder)


def change(folder, **changes):
    """Adds or, with None, removes weights."""
    file = f"{folder}/model.safetensors"
    weights = load_file(file) | changes
    kept = {name: value for name, value in weights.items() if value is not None}
    save_file(kept, file, metadata={"format": "pt"})
    return folder


@pytest.fixture
def judge(tmp_path):
    return put(tmp_path / "judge", BertForSequenceClassification(BertConfig(**SHAPE)))


# --- Complete or refused ---


def test_a_language_model_is_not_a_classifier(tmp_path):
    folder = str(write(tmp_path / "lm"))
    with pytest.raises(
        MetricError, match=r"lacks 1 weights of LlamaForSequenceClassification.*'score\.weight'"
    ):
        make_metric("classifier", {"model": folder, "label": "LABEL_1", "max_tokens": 32})


def test_a_trunk_is_not_a_classifier_and_a_classifier_is_not_a_language_model(tmp_path, judge):
    trunk = BertForSequenceClassification(BertConfig(**SHAPE)).bert
    with pytest.raises(MetricError, match=r"lacks 2 weights.*classifier\.bias"):
        load_checkpoint(put(tmp_path / "trunk", trunk), CLASSIFIER)
    scorer = LlamaForSequenceClassification(LlamaConfig(**SHAPE, num_key_value_heads=2))
    with pytest.raises(MetricError, match=r"lacks 1 weights of LlamaForCausalLM.*lm_head"):
        load_checkpoint(put(tmp_path / "scorer", scorer), CAUSAL)
    with pytest.raises(PolicyError, match="lacks"):
        load_checkpoint(judge, POLICY)


@pytest.mark.parametrize("role", [CLASSIFIER, ENCODER])
def test_a_weight_of_the_trunk_may_be_neither_missing_nor_left_over(judge, role):
    name = "bert.encoder.layer.1.output.dense.weight"
    stored = load_file(f"{judge}/model.safetensors")[name]
    change(judge, **{name: None})
    with pytest.raises(
        MetricError, match=r"lacks 1 weights.*encoder\.layer\.1\.output\.dense\.weight"
    ):
        load_checkpoint(judge, role)
    change(judge, **{name: stored, "bert.encoder.layer.2.output.dense.weight": stored.clone()})
    with pytest.raises(MetricError, match=r"has 1 weights that .* does not use.*layer\.2"):
        load_checkpoint(judge, role)
    change(judge, **{"bert.encoder.layer.2.output.dense.weight": None, name: stored[:, :5].clone()})
    with pytest.raises(
        MetricError, match=r"whose shape differs from config.json.*\(16, 5\) in the file"
    ):
        load_checkpoint(judge, role)
    change(judge, **{name: torch.full_like(stored, torch.nan)})
    with pytest.raises(MetricError, match="not finite"):
        load_checkpoint(judge, role)


def test_heads_of_other_tasks_and_poolers_that_are_not_read_are_fine(tmp_path, judge):
    masked = put(tmp_path / "masked", BertForMaskedLM(BertConfig(**SHAPE)))  # no pooler, other head
    loaded = load_checkpoint(masked, ENCODER)
    assert not loaded.model.training
    load_checkpoint(judge, ENCODER)
    head = {"cls.predictions.bias": torch.zeros(48)}
    load_checkpoint(change(judge, **head), CLASSIFIER)
    load_checkpoint(change(judge, **{"bert.embeddings.position_ids": torch.arange(32)}), CLASSIFIER)


def test_fewer_layers_of_an_encoder_are_the_lower_ones(judge):
    loaded = load_checkpoint(judge, ENCODER, layers=1)
    assert len(loaded.model.encoder.layer) == 1


def test_a_masked_language_model_has_no_perplexity(tmp_path):
    folder = put(tmp_path / "masked", BertForMaskedLM(BertConfig(**SHAPE)))
    with pytest.raises(MetricError, match="uses tokens to the right"):
        make_metric("perplexity", {"model": folder})
    causal = BertLMHeadModel(BertConfig(**SHAPE, is_decoder=True))
    assert load_checkpoint(put(tmp_path / "causal", causal), CAUSAL).model.config.is_decoder


def test_a_value_head_of_another_library_is_not_dropped(tmp_path):
    folder = str(write(tmp_path / "trl"))
    change(folder, **{"v_head.summary.weight": torch.ones(1, 32)})
    with pytest.raises(
        PolicyError, match=r"1 weights that LlamaForCausalLM does not use.*v_head\.summary"
    ):
        LanguageModelPolicy.load(folder, **LIMITS)


def test_everything_is_float32_and_does_not_train(tmp_path):
    model = BertForSequenceClassification(BertConfig(**SHAPE, hidden_dropout_prob=0.5)).half()
    loaded = load_checkpoint(put(tmp_path / "half", model), CLASSIFIER)
    assert {value.dtype for value in loaded.model.parameters()} == {torch.float32}
    assert not any(part.training for part in loaded.model.modules())
    assert loaded.identity.startswith("half@")


def test_return_dict_in_a_configuration_changes_nothing(tmp_path):
    folder = str(write(tmp_path / "lm"))
    edit(tmp_path / "lm" / "config.json", return_dict=False, output_hidden_states=True)
    policy = LanguageModelPolicy.load(folder, **LIMITS)
    assert policy.model.config.return_dict
    assert not policy.model.config.output_hidden_states


# --- The critic ---


@pytest.mark.parametrize("trunk", ["shared", "separate"])
def test_a_damaged_critic_is_one_message(tmp_path, trunk):
    folder = str(write(tmp_path / "lm"))
    saved = tmp_path / "saved"
    LanguageModelPolicy.load(folder, value_trunk=trunk, **LIMITS).save(saved)
    head = saved / "value_head.safetensors"
    whole = head.read_bytes()
    for damage in (
        lambda: head.write_bytes(whole[:20]),
        lambda: head.write_bytes(b""),
        lambda: save_file({"weight": torch.ones(1, 32)}, head, metadata={"trunk": "policy's"}),
        lambda: save_file({"weight": torch.ones(1, 32), "bias": torch.ones(1)}, head),
        lambda: save_file({"weight": torch.ones(1, 3), "bias": torch.ones(1)}, head),
    ):
        damage()
        with pytest.raises(PolicyError, match="value head"):
            LanguageModelPolicy.load(str(saved), value_trunk=trunk, **LIMITS)
    head.write_bytes(whole)
    if trunk == "separate":
        change(saved / "value_trunk", **{"model.norm.weight": None})
        with pytest.raises(
            PolicyError, match=r"value_trunk.* lacks 1 weights.*model\.norm\.weight"
        ):
            LanguageModelPolicy.load(str(saved), value_trunk=trunk, **LIMITS)


# --- Exceptions of libraries ---


DAMAGES = {
    "quantized": lambda f: edit(f / "config.json", quantization_config={"quant_method": "bitsandbytes"}),
    "quantized by a package that is not here": lambda f: edit(
        f / "config.json", quantization_config={"quant_method": "gptq", "bits": 4}),
    "quantized in no known way": lambda f: edit(f / "config.json", quantization_config={"quant_method": "x"}),
    "flash attention": lambda f: edit(f / "config.json", attn_implementation="flash_attention_2"),
    "an attention that nobody knows": lambda f: edit(f / "config.json", attn_implementation="fast"),
    "own code": lambda f: edit(f / "config.json", model_type="own", auto_map={"AutoConfig": "a.B"}),
    "weights elsewhere": lambda f: edit(f / "config.json", transformers_weights="../x.safetensors"),
    "no JSON": lambda f: (f / "config.json").write_text("{"),
    "no text": lambda f: (f / "config.json").write_bytes(b"\xff\xfe{}"),
    "a list": lambda f: (f / "config.json").write_text("[1]"),
    "nested": lambda f: (f / "config.json").write_text("[" * 5000),
    "empty configuration": lambda f: (f / "config.json").write_bytes(b""),
    "a dtype that nobody knows": lambda f: edit(f / "config.json", dtype="float99"),
    "an activation that nobody knows": lambda f: edit(f / "config.json", hidden_act="no", activation_function="no"),
    "no layers": lambda f: edit(f / "config.json", num_hidden_layers="two"),
    "empty weights": lambda f: (f / "model.safetensors").write_bytes(b""),
    "torn weights": lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:900]),
    "no weights": lambda f: (f / "model.safetensors").unlink(),
    "pickled": lambda f: ((f / "model.safetensors").unlink(), (f / "pytorch_model.bin").write_bytes(b"no pickle")),
    "no tokenizer": lambda f: [p.unlink() for p in f.glob("tokenizer*")],
    "torn tokenizer": lambda f: (f / "tokenizer.json").write_text((f / "tokenizer.json").read_text()[:500]),
    "another tokenizer": lambda f: (f / "tokenizer.json").write_text('{"version": "1.0"}'),
    "torn tokenizer settings": lambda f: (f / "tokenizer_config.json").write_text('{"a"'),
}  # fmt: skip


def load_for(use, folder):
    if use == "policy":
        return LanguageModelPolicy.load(folder, **LIMITS)
    own = (
        {"label": "LABEL_1", "max_tokens": 16, "text": "completion"} if use == "classifier" else {}
    )
    return make_metric(use, {"model": folder, **own})


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("use", ["policy", "perplexity", "classifier", "bertscore-minilm"])
def test_whatever_a_library_raises_is_one_message(tmp_path, damage, use):
    folder = tmp_path / "model"
    if use in ("policy", "perplexity"):
        write(folder)
    else:
        put(folder, BertForSequenceClassification(BertConfig(**SHAPE)))
    DAMAGES[damage](folder)
    with pytest.raises(LmrlBenchError) as caught:
        load_for(use, str(folder))
    message = str(caught.value)
    assert caught.value.exit_code == 2
    assert str(folder) in message, message
    assert "\n" not in message


def test_the_damaged_file_is_named(tmp_path):
    folder = write(tmp_path / "model")
    (folder / "model.safetensors").write_bytes(b"")
    with pytest.raises(
        PolicyError, match=r"model\.safetensors is damaged.*copy or download it again"
    ):
        load_checkpoint(str(folder), POLICY)


def test_a_tokenizer_alone_is_read_in_the_same_way(tmp_path):
    folder = write(tmp_path / "model")
    assert len(load_tokenizer(str(folder))) == 45
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(PolicyError, match=r"tokenizer of .*tokenizer\.json is damaged"):
        load_tokenizer(str(folder))


def test_an_adapter_on_a_hub_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("lmrl_bench.models.checkpoint.resolve_model", lambda name, _: name)
    monkeypatch.setattr(
        "lmrl_bench.models.checkpoint.cached_file", lambda *_, **__: "adapter_config.json"
    )
    with pytest.raises(
        PolicyError, match=r"is an adapter on a hub; download it \(hf download owner/name"
    ):
        load_checkpoint("owner/name", POLICY, "abc")


# --- What a load prints ---


def test_a_load_prints_nothing_though_weights_are_left_over_or_tied(tmp_path, capfd, caplog):
    masked = put(tmp_path / "masked", BertForMaskedLM(BertConfig(**SHAPE)))
    untied = tiny_seq2seq("t5", 48)
    with torch.no_grad():
        untied.lm_head.weight = torch.nn.Parameter(untied.lm_head.weight + 1)
    folder = put(tmp_path / "t5", untied)
    weights = load_file(f"{folder}/model.safetensors")
    weights["lm_head.weight"] = weights["shared.weight"] + 1
    save_file(weights, f"{folder}/model.safetensors", metadata={"format": "pt"})
    capfd.readouterr()
    library = logging.getLogger("transformers")
    library.propagate = True
    try:
        with caplog.at_level(logging.WARNING):
            load_checkpoint(masked, ENCODER)
            loaded = load_checkpoint(folder, POLICY)
    finally:
        library.propagate = False
    assert [record.getMessage() for record in caplog.records] == []
    assert capfd.readouterr() == ("", "")
    head = loaded.model.get_output_embeddings().weight
    assert torch.equal(head, weights["lm_head.weight"])  # the file's own weights win


# --- Text is text ---


@pytest.mark.parametrize("name", ["perplexity", "bertscore-minilm", "classifier"])
def test_a_completion_cannot_spell_a_control_token(tmp_path, name):
    from transformers import AutoTokenizer

    folder = tmp_path / "model"
    if name == "perplexity":
        write(folder)
    elif name == "classifier":
        put(folder, BertForSequenceClassification(BertConfig(**SHAPE)))
    else:
        folder = write_encoder(folder)
    metric = load_for(name, str(folder))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    backend = tokenizer.backend_tokenizer
    backend.encode_special_tokens = True
    specials = [token for token in tokenizer.all_special_tokens if token != tokenizer.unk_token]
    assert specials
    seen = _ids_that_are_read(metric)
    for token in specials:
        completion = f"a {token} b"
        seen.clear()
        metric.score([completion], [Sample("0", f"the {token}", ("a b",), {})])
        number = tokenizer.convert_tokens_to_ids(token)
        for row in seen:
            assert number not in (row[1:-1] if name == "bertscore-minilm" else row)
        expected = backend.encode(completion, add_special_tokens=False).ids
        assert any(_contains(row, expected) for row in seen), (token, expected, seen)


def _ids_that_are_read(metric):
    network = getattr(metric, "_network", None) or getattr(metric, "_model", None)
    network = getattr(network, "network", network)
    network = network or metric._classifier.model
    seen = []

    def hook(_module, args, kwargs):
        ids = kwargs.get("input_ids", args[0] if args else None)
        mask = kwargs.get("attention_mask")
        for row in range(len(ids)):
            kept = ids[row] if mask is None else ids[row][mask[row].bool()]
            seen.append(kept.tolist())

    network.register_forward_pre_hook(hook, with_kwargs=True)
    return seen


def _contains(row, part):
    return any(row[i : i + len(part)] == part for i in range(len(row) - len(part) + 1))


def test_pieces_and_words_of_control_tokens_are_found_by_no_text():
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    from lmrl_bench.models.texts import read_as_text

    pieces = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0), *((c, -3.0) for c in "▁abcs</>")]
    unigram = Tokenizer(models.Unigram(pieces, unk_id=0))
    unigram.pre_tokenizer = pre_tokenizers.Metaspace()
    words = Tokenizer(
        models.WordLevel({"<unk>": 0, "<s>": 1, "</s>": 2, "a": 3}, unk_token="<unk>")
    )
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    for backend in (unigram, words):
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
        )
        assert 2 in tokenizer("a </s> a")["input_ids"]
        before = tokenizer("a a")["input_ids"]
        read_as_text(tokenizer, "the judge", MetricError)
        assert not {1, 2} & set(tokenizer(["a </s> a", "<s>a</s>", "</s>"])["input_ids"][0])
        assert not any({1, 2} & set(row) for row in tokenizer(["<s>a</s>", "</s>"])["input_ids"])
        assert tokenizer("a a")["input_ids"] == before
        assert tokenizer.eos_token_id == 2


def test_a_tokenizer_whose_text_cannot_be_kept_apart_is_refused():
    from transformers import CanineTokenizer

    from lmrl_bench.models.texts import read_as_text

    with pytest.raises(MetricError, match="the judge: its tokenizer reads the text"):
        read_as_text(CanineTokenizer(), "the judge", MetricError)
