"""BERTScore and perplexity: limits of the models are kept and counted, wrong models refused."""

import shutil

import pytest
import torch
from fixtures.encoders import POSITIONS
from fixtures.toy import tiny_seq2seq, toy_tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

from lmrl_bench.core.errors import DownloadError, MetricError, PolicyError
from lmrl_bench.data.sample import Sample
from lmrl_bench.metrics import make_metric, perplexity


def rows(*references, prompt="a prompt"):
    return [Sample(str(i), prompt, (text,)) for i, text in enumerate(references)]


def test_bertscore_cuts_and_counts_long_texts(encoder):
    metric = make_metric("bertscore-minilm", {"model": encoder})
    long = "the cat " * POSITIONS
    fits = "cat " * (POSITIONS - 2)
    result = metric.score([long, fits, long], rows("cat", long, "cat"))
    assert result.details == {"truncated_completions": 2.0, "truncated_references": 1.0}
    assert f"max_tokens:{POSITIONS}" in metric.signature


def test_bertscore_remembers_a_bounded_number_of_references(encoder, monkeypatch):
    monkeypatch.setattr("lmrl_bench.metrics.embedding._CACHED_REFERENCES", 2)
    metric = make_metric("bertscore-minilm", {"model": encoder})
    references = ["cat", "dog", "the mat", "bad dog"]
    first = metric.score(["cat"] * 4, rows(*references)).per_sample
    assert list(metric._references) == ["the mat", "bad dog"]
    again = metric.score(["cat"] * 4, rows(*references)).per_sample
    assert again.tolist() == first.tolist()


def test_bertscore_refuses_what_is_not_an_encoder(encoder, tmp_path):
    tiny_seq2seq("bart").save_pretrained(tmp_path / "seq2seq")
    with pytest.raises(MetricError, match="give an encoder"):
        make_metric("bertscore-minilm", {"model": str(tmp_path / "seq2seq")})
    with pytest.raises(MetricError, match=r"num_layers is 4, but .* has 3 layers"):
        make_metric("bertscore-minilm", {"model": encoder, "num_layers": 4})


def test_bertscore_says_how_to_install_its_encoder(tmp_path, monkeypatch):
    monkeypatch.setenv("LMRL_BENCH_CACHE", str(tmp_path))
    with pytest.raises(DownloadError, match="lmrl-bench download install minilm"):
        make_metric("bertscore-minilm")


def test_perplexity_cuts_the_beginning_of_long_prompts(causal):
    metric = make_metric("perplexity", {"model": causal})
    beginning, end = "the a " * 60, "in the tin " * 10
    prompts = rows("x", prompt=beginning + end) + rows("x", prompt="b" + beginning + end)
    result = metric.score(["on", "on"], prompts)
    assert result.details["truncated_prompts"] == 2
    assert result.per_sample[0] == pytest.approx(result.per_sample[1], rel=1e-5)


def test_perplexity_reads_a_completion_longer_than_the_model_in_windows(causal):
    tokenizer = AutoTokenizer.from_pretrained(causal)
    network = AutoModelForCausalLM.from_pretrained(causal)
    prompt, completion = "the cab", " in the tin a" * 40
    before, scored = tokenizer(prompt)["input_ids"], tokenizer(completion)["input_ids"]
    assert len(scored) > 128
    ids, total = torch.tensor([before + scored]), 0.0
    for start in range(len(before), ids.shape[1], 64):
        stop = min(start + 64, ids.shape[1])
        labels = ids.clone()
        labels[:, :start] = -100
        window = slice(max(stop - 128, 0), stop)
        with torch.no_grad():
            loss = network(input_ids=ids[:, window], labels=labels[:, window]).loss
        total += float(loss) * (stop - start)
    metric = make_metric("perplexity", {"model": causal})
    result = metric.score([completion, "on"], rows("x", "x", prompt=prompt))
    assert result.per_sample[0] == pytest.approx(total / len(scored), rel=1e-5)
    assert result.details["windowed_completions"] == 1
    assert result.details["truncated_prompts"] == 0


def test_perplexity_is_lower_for_what_the_model_itself_writes(causal):
    tokenizer = AutoTokenizer.from_pretrained(causal)
    prompt = tokenizer("the cab", return_tensors="pt")["input_ids"]
    # Greedy decoding of a random model; the words must survive decoding, so a few are tried.
    network = AutoModelForCausalLM.from_pretrained(causal)
    with torch.no_grad():
        best = int(network(prompt).logits[0, -1].argmax())
        worst = int(network(prompt).logits[0, -1, 3:38].argmin()) + 3
    texts = [tokenizer.decode([best]), tokenizer.decode([worst])]
    metric = make_metric("perplexity", {"model": causal})
    low, high = metric.score(texts, rows("x", "x", prompt="the cab")).per_sample
    assert low < high
    assert not metric.higher_is_better


def test_perplexity_refuses_models_it_cannot_use(tmp_path):
    tiny_seq2seq("t5").save_pretrained(tmp_path / "seq2seq")
    toy_tokenizer().save_pretrained(tmp_path / "seq2seq")
    with pytest.raises(MetricError, match="encoder-decoder"):
        make_metric("perplexity", {"model": str(tmp_path / "seq2seq")})
    with pytest.raises(PolicyError, match="no model 'nano-causl'"):
        make_metric("perplexity", {"model": "nano-causl"})


def test_perplexity_wants_a_hub_id_pinned(monkeypatch):
    monkeypatch.setattr("lmrl_bench.models.names._check_on_hub", lambda name, revision: None)
    with pytest.raises(MetricError, match="pin it with `revision`"):
        make_metric("perplexity", {"model": "openai-community/gpt2"})


def test_signature_names_the_weights_not_the_place(causal, tmp_path):
    copy = shutil.copytree(causal, tmp_path / causal.rsplit("/", 1)[-1])
    first = make_metric("perplexity", {"model": causal}).signature
    assert make_metric("perplexity", {"model": str(copy)}).signature == first
    config = copy / "config.json"
    config.write_text(
        config.read_text().replace('"scale_attn_weights": true', '"scale_attn_weights": false')
    )
    perplexity._load.cache_clear()
    assert make_metric("perplexity", {"model": str(copy)}).signature != first
