"""Supervised fine-tuning: the loss, the schedule, the data, resume."""

import io
import math

import pytest
import torch
from fixtures.training import largest_difference, make_algorithm, weights_of

from lmrl_bench.algorithms.sft import SFTConfig, reference_batch


@pytest.mark.parametrize("family", ["gpt2", "t5"])
def test_the_loss_is_hugging_faces_on_the_completion_tokens(family):
    """Their own loss with labels -100 at prompt and padding, one unpadded row at a time."""
    algorithm = make_algorithm("sft", family=family)
    model, codec = algorithm.policy.model, algorithm._codec
    total, count = 0.0, 0
    for sample in algorithm._validation:
        prompt, completion = codec.encode(sample), codec.encode_reference(sample)
        if algorithm.policy.kind == "causal":
            ids = torch.tensor([[*prompt, *completion]])
            labels = torch.tensor([[-100] * len(prompt) + completion])
        else:
            ids, labels = torch.tensor([prompt]), torch.tensor([completion])
        with torch.no_grad():
            total += float(model(input_ids=ids, labels=labels).loss) * len(completion)
        count += len(completion)
    assert algorithm.validation_loss() == pytest.approx(total / count, rel=1e-5)


def test_warm_up_then_cosine():
    algorithm = make_algorithm("sft", epochs=10, batch_size=6, warmup_share=0.2, learning_rate=1.0)
    assert algorithm.total_steps == 20
    rates = [algorithm.learning_rate(step) for step in range(20)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[4] == 1.0
    assert rates[12] == pytest.approx(0.5 * (1 + math.cos(math.pi * 0.5)))
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert rates[-1] > 0.0


def test_every_sample_once_an_epoch_and_iterations_are_counted():
    algorithm = make_algorithm("sft", epochs=2, batch_size=5, steps_per_iteration=4)
    batches = [algorithm.samples(step) for step in range(algorithm.total_steps)]
    assert [len(batch) for batch in batches] == [5, 5, 2] * 2
    epochs = [[sample.id for batch in batches[i : i + 3] for sample in batch] for i in (0, 3)]
    assert set(epochs[0]) == set(epochs[1])
    assert epochs[0] != epochs[1]
    rows = []
    algorithm.learn(after_iteration=rows.append)
    assert [(row.iteration, row.optimizer_steps, row.progress) for row in rows] == [
        (1, 4, pytest.approx(4 / 6)), (2, 6, 1.0),
    ]  # fmt: skip
    assert rows[0].rollout is None
    assert rows[0].tokens == 0
    assert "update/terms/validation_loss" in rows[0].flat()


def test_max_steps_and_micro_batches():
    whole = make_algorithm("sft", max_steps=3)
    split = make_algorithm("sft", max_steps=3, micro_batch_tokens=1)
    assert whole.total_steps == 3
    whole.learn()
    split.learn()
    # Parameters themselves differ: AdamW's steps are as large for a gradient that is nothing but rounding.
    assert whole.validation_loss() == pytest.approx(split.validation_loss(), abs=1e-5)


def test_max_samples_are_the_first_ones_and_no_limit_leaves_no_trace():
    algorithm = make_algorithm("sft", max_samples=4, epochs=3, batch_size=3)
    seen = {
        sample.id for step in range(algorithm.total_steps) for sample in algorithm.samples(step)
    }
    assert seen == {f"train-{row}" for row in range(4)}
    assert algorithm.total_steps == 6
    # Digests of runs and of shipped SFT policies contain the settings.
    assert "max_samples" not in SFTConfig().model_dump(mode="json")
    assert SFTConfig(max_samples=4).model_dump(mode="json")["max_samples"] == 4


def test_eos_is_learned_and_several_references_take_turns():
    algorithm = make_algorithm("sft")
    sample = algorithm._train[0]
    twice = type(sample)("x", sample.prompt, ("a", "a b a"))
    one, two = (
        reference_batch(algorithm._codec, [twice], turn, torch.device("cpu")) for turn in (0, 1)
    )
    assert one.n_tokens < two.n_tokens
    assert int(one.completion_ids[0, one.n_tokens - 1]) == algorithm._codec.eos_id


def test_resume_equals_uninterrupted():
    whole = make_algorithm("sft", steps_per_iteration=2)
    whole.learn()
    states = []

    class StopError(Exception):
        pass

    def stop(stats):
        buffer = io.BytesIO()
        torch.save(broken.state_dict(), buffer)
        states.append(buffer.getvalue())
        if stats.iteration == 2:
            raise StopError

    broken = make_algorithm("sft", steps_per_iteration=2)
    with pytest.raises(StopError):
        broken.learn(after_iteration=stop)
    resumed = make_algorithm("sft", steps_per_iteration=2)
    resumed.load_state_dict(torch.load(io.BytesIO(states[-1]), weights_only=True))
    assert resumed.step == 4
    resumed.learn()
    assert largest_difference(weights_of(whole.policy), weights_of(resumed.policy)) == 0.0
