"""Reward transforms: formulas against SciPy, TRL and plain Python; training only; bad declarations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from fixtures.toy import toy_task
from fixtures.training import make_algorithm
from scipy.stats import zscore

from lmrl_bench.config.run import TransformSpec
from lmrl_bench.core.errors import ConfigError, RewardError, RewardNotFiniteError
from lmrl_bench.data.sample import Sample
from lmrl_bench.rewards import TRANSFORMS, RewardTransform, TransformBatch
from lmrl_bench.rewards.transforms import (
    Affine,
    Clip,
    MissingEosPenalty,
    SoftOverlong,
    Whiten,
    ZScore,
    make_transforms,
    transform_scores,
)

SCORES = np.array([0.5, 2.0, -1.0, 0.25, 0.0, 3.0])


def batch(lengths=(2, 8, 5, 6, 1, 8), terminated=(1, 0, 1, 1, 1, 1), groups=(0, 0, 0, 1, 1, 1)):
    samples = [Sample(f"s{g % 2}", "p", (), meta={"topic": "ab"[g % 2]}) for g in groups]
    return TransformBatch(
        samples=samples,
        group_ids=np.array(groups, np.int64),
        lengths=np.array(lengths, np.int64),
        terminated=np.array(terminated, np.bool_),
        max_tokens=8,
    )


def test_whiten_is_the_formula_of_the_paper():
    expected = (SCORES - SCORES.mean()) / np.sqrt(SCORES.var() + 1e-8)
    np.testing.assert_allclose(Whiten()(SCORES, batch()), expected)
    kept = Whiten(keep_mean=True)(SCORES, batch())
    np.testing.assert_allclose(kept, expected + SCORES.mean())
    np.testing.assert_allclose(Whiten()(np.full(6, 3.0), batch()), np.zeros(6))


def test_z_score_by_group_equals_scipy():
    expected = np.concatenate([zscore(SCORES[:3]), zscore(SCORES[3:])])
    np.testing.assert_allclose(ZScore(epsilon=1e-12)(SCORES, batch()), expected)


def test_z_score_joins_groups_of_one_prompt_or_of_one_meta_field():
    rows = batch(groups=(0, 0, 2, 1, 1, 2))  # groups 0 and 2 are of the sample s0
    expected = np.empty(6)
    for index in ([0, 1, 2, 5], [3, 4]):
        expected[index] = zscore(SCORES[index])
    np.testing.assert_allclose(ZScore("prompt", 1e-12)(SCORES, rows), expected)
    np.testing.assert_allclose(ZScore("topic", 1e-12)(SCORES, rows), expected)


def test_z_score_of_equal_scores_and_of_large_ones():
    assert not ZScore()(np.full(6, float(np.float32(0.1))), batch()).any()
    shifted = ZScore(epsilon=1e-12)(SCORES + 2.0**40, batch())
    np.testing.assert_allclose(shifted, ZScore(epsilon=1e-12)(SCORES, batch()), rtol=1e-3)


def test_soft_overlong_equals_trl():
    trl = pytest.importorskip("trl.rewards").get_soft_overlong_punishment(8, 3)
    lengths = range(1, 9)
    rows = batch(lengths, [1] * 8, [0] * 8)
    expected = trl([[0] * length for length in lengths])
    np.testing.assert_allclose(SoftOverlong(3)(np.zeros(8), rows), expected)
    half = SoftOverlong(3, factor=0.5)(np.ones(8), rows)
    np.testing.assert_allclose(half, 1 + 0.5 * np.array(expected))


def test_affine_and_clip():
    np.testing.assert_allclose(Affine(2.0, -1.0)(SCORES, batch()), 2 * SCORES - 1)
    np.testing.assert_allclose(Clip(0.0, 1.0)(SCORES, batch()), np.clip(SCORES, 0, 1))


def test_missing_eos_penalty():
    changed = MissingEosPenalty(0.5)(SCORES, batch()) - SCORES
    np.testing.assert_array_equal(changed, [0, -0.5, 0, 0, 0, 0])


def test_transforms_run_in_their_order_and_say_their_means():
    first = transform_scores([Affine(2.0), Clip(-1.0, 1.0), Affine(shift=1.0)], SCORES, batch())
    np.testing.assert_allclose(first.scores, np.clip(2 * SCORES, -1, 1) + 1)
    assert list(first.means) == ["affine", "clip", "affine-2"]
    assert first.means["affine"] == pytest.approx(2 * SCORES.mean())
    assert first.means["affine-2"] == pytest.approx(first.scores.mean())
    other = transform_scores([Clip(-1.0, 1.0), Affine(2.0)], SCORES, batch())
    assert not np.allclose(first.scores - 1, other.scores)


class Broken(RewardTransform):
    """Gives what it is told."""

    name = "broken"

    def __init__(self, given):
        self.given = given

    def __call__(self, scores, batch):
        return self.given if isinstance(self.given, np.ndarray) else self.given()


def test_what_a_transform_may_not_give():
    with pytest.raises(RewardError, match=r"'broken' gave scores of shape \(2,\), expected \(6,\)"):
        transform_scores([Broken(np.zeros(2))], SCORES, batch())
    bad = np.array([0.0, 0.0, 0.0, math.nan, 0.0, 0.0])
    with pytest.raises(RewardNotFiniteError, match="'broken' gave nan for sample 's1'"):
        transform_scores([Broken(bad)], SCORES, batch())
    with pytest.raises(RewardError, match=r"test_transforms.py:\d+: ZeroDivisionError.*'broken'"):
        transform_scores([Broken(lambda: 1 / 0)], SCORES, batch())


def test_token_rewards_go_with_penalties_only():
    transform_scores([SoftOverlong(2), MissingEosPenalty()], SCORES, batch(), token_rewards=True)
    with pytest.raises(RewardError, match="'whiten' would change the episode's score and leave"):
        transform_scores([Whiten()], SCORES, batch(), token_rewards=True)


@pytest.mark.parametrize(
    ("name", "args", "reason"),
    [
        ("whitten", {}, "unknown reward transform 'whitten'; did you mean 'whiten'"),
        ("whiten", {"keep": True}, "unknown argument 'keep'; did you mean 'keep_mean'"),
        ("clip", {"low": 1.0, "high": 1.0}, "low must be smaller"),
        ("clip", {"low": math.nan, "high": 1.0}, "low must be smaller"),
        ("affine", {"scale": 0.0}, "scale not 0"),
        ("soft-overlong", {"buffer_tokens": 0}, "buffer_tokens is 0; it must be finite and pos"),
        ("missing-eos-penalty", {"value": -1.0}, "value is -1.0; it must be finite and not neg"),
        ("z-score", {"epsilon": 0.0}, "epsilon is 0.0"),
    ],
)
def test_bad_declarations(name, args, reason):
    spec = TransformSpec.model_construct(name=name, args=args)
    with pytest.raises((ConfigError, RewardError), match=reason):
        make_transforms([spec])


def test_what_does_not_fit_the_task_is_refused_before_training():
    with pytest.raises(RewardError, match=r"buffer_tokens is 9, .* at most 8 tokens; choose at mo"):
        SoftOverlong(9).check([], 8)
    with pytest.raises(RewardError, match=r"by is 'topics', .* 's0' .*did you mean 'topic'"):
        ZScore("topics").check(batch().samples, 8)
    with pytest.raises(RewardError, match=r"no two of the 2 episodes .* set algorithm.group_size"):
        ZScore()(SCORES[:2], batch((1, 1), (1, 1), (0, 1)))
    with pytest.raises(RewardError, match="episodes_per_iteration to at least 2"):
        Whiten()(SCORES[:1], batch((1,), (1,), (0,)))


def _collect(*transforms, **options):
    """Returns an algorithm with declared transforms, and its first rollout."""
    algorithm = make_algorithm("reinforce", kl={"coefficient": 0.1}, **options)
    algorithm.core.transforms = transforms
    return algorithm, algorithm.collect()


def test_training_learns_from_transformed_scores_and_logs_both():
    _, raw = _collect()
    assert dict(raw.stats.transformed) == {}
    _, done = _collect(Affine(3.0), Affine(shift=-2.0))
    stats, scores = done.stats, raw.episodes.scores
    torch.testing.assert_close(done.episodes.scores, scores)  # the task's own
    assert stats.score == raw.stats.score
    assert stats.transformed["affine"] == pytest.approx(3 * stats.score, rel=1e-6)
    assert stats.transformed["affine-2"] == pytest.approx(3 * stats.score - 2, rel=1e-6)
    paid = done.episodes.rewards.sum(1) - raw.episodes.rewards.sum(1)
    torch.testing.assert_close(paid, 2 * scores - 2)
    assert stats.reward == pytest.approx(raw.stats.reward + 2 * stats.score - 2, rel=1e-5)


def test_groups_are_those_of_the_iteration():
    algorithm, done = _collect(ZScore(), group_size=4)
    assert done.stats.transformed["z-score"] == pytest.approx(0.0, abs=1e-7)
    episodes = done.episodes
    again, _ = algorithm.core.training_scores(episodes)
    for group in episodes.group_ids.unique():
        members = episodes.scores[episodes.group_ids == group].double().numpy()
        expected = (members - members.mean()) / (members.std() + 1e-4)
        np.testing.assert_allclose(again[episodes.group_ids == group].numpy(), expected, rtol=1e-5)


def test_outcomes_are_never_transformed():
    algorithm, _ = _collect(Affine(shift=100.0))
    core = algorithm.core
    prompts = core.sample_prompts(2)
    eos = torch.full((2, core.rules.max_tokens), core.codec.vocabulary.eos_id)
    outcome = core.outcome(prompts, core.completions(eos.numpy()))
    assert float(outcome.scores.max()) < 50


def test_the_registry_lists_every_class_by_its_name():
    assert {TRANSFORMS.get(name).name for name in TRANSFORMS} == set(TRANSFORMS)
    assert toy_task().spec.reward.transforms == []
