"""`plugin.py`: plain functions as rewards and metrics, and one message for whatever it does wrong."""

from __future__ import annotations

import math
import signal

import numpy as np
import pytest
from helpers_tasks import definition, write_task

from lmrl_bench.core.errors import LmrlBenchError, MetricError, RewardNotFiniteError, TaskError
from lmrl_bench.rewards import RewardBatch
from lmrl_bench.tasks.lint import lint
from lmrl_bench.tasks.preview import preview
from lmrl_bench.tasks.task import Task

TEXTS = ["the red boat", "", "a"]
DEFAULT = {"primary": {"name": "rouge-l"}, "held_out": [{"name": "chrf"}]}


def task_with(tmp_path, code, name="mine", args=None, metrics=DEFAULT, folder="one") -> Task:
    terms = [{"name": name, "args": args or {}}]
    spec = definition(reward={"terms": terms}, metrics=metrics)
    made = write_task(tmp_path / folder, spec)
    (made / "plugin.py").write_text(code)
    return Task(made)


def rewards_of(task, texts=TEXTS):
    samples = task.samples("test")[: len(texts)]
    lengths = np.array([len(text.split()) + 1 for text in texts], np.int64)
    batch = RewardBatch(samples, texts, lengths, np.ones(len(texts), np.bool_))
    return task.reward()(batch).scores.tolist()


@pytest.mark.parametrize(
    ("parameters", "value"),
    [
        ("completions, samples", "float(len(c))"),
        ("completions, samples", "len(c)"),
        ("texts, rows", "len(c)"),
        ("completions, **kwargs", "len(c)"),
        ("prompts, completions, **kwargs", "len(c)"),
        ("texts", "len(c)"),
        ("samples, completions", "len(c)"),
        ("texts, rows, /", "len(c)"),
    ],
)
def test_a_function_is_a_reward(tmp_path, parameters, value):
    texts = next(n for n in ("completions", "completions", "texts") if n in parameters)
    code = f"def f({parameters}):\n    return [{value} for c in {texts}]\nREWARDS = {{'mine': f}}\n"
    assert rewards_of(task_with(tmp_path, code)) == [12.0, 0.0, 1.0]


@pytest.mark.parametrize(
    "returned",
    [
        "[1, 0.5, True]",
        "(1, 0.5, True)",
        "np.array([1, 0.5, 1])",
        "torch.tensor([1.0, 0.5, 1.0], requires_grad=True)",
        "[np.float32(1), torch.tensor(0.5), np.bool_(True)]",
        "(x for x in [1, 0.5, 1])",
        "[Fraction(1), Decimal('0.5'), 1]",
    ],
)
def test_numbers_of_every_kind_are_taken(tmp_path, returned):
    code = (
        "import numpy as np, torch\nfrom fractions import Fraction\nfrom decimal import Decimal\n"
        f"def f(completions, samples):\n    return {returned}\nREWARDS = {{'mine': f}}\n"
    )
    assert rewards_of(task_with(tmp_path, code)) == [1.0, 0.5, 1.0]


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("[1.0]", "returned 1 values for 3 completions, the first for sample 'test-0'"),
        (
            "[1.0, None, 1.0]",
            "returned None for sample 'test-1'.*use 0.0 for a completion that earns nothing",
        ),
        ("[1.0, 1.0, '1']", "returned '1' for sample 'test-2'"),
        ("[1.0, [1], 1]", r"returned \[1\] for sample 'test-1'"),
        ("[1.0, 1j, 1]", "returned 1j for sample 'test-1'"),
        ("[1.0, float('nan'), 1]", "returned nan for sample 'test-1'"),
        ("[1.0, 1, float('-inf')]", "returned -inf for sample 'test-2'"),
        ("[1.0, 10 ** 400, 1]", "returned inf for sample 'test-1'"),
        ("None", "returned None; return a list"),
        ("1.0", r"returned 1.0; return a list"),
        ("'abc'", "returned 'abc'; return a list"),
        ("{'a': 1, 'b': 2, 'c': 3}", "returned .*; return a list"),
        ("np.zeros((3, 2))", r"returned \[0.0, 0.0\] for sample 'test-0'"),
        ("np.zeros((3, 1))", r"returned \[0.0\] for sample 'test-0'"),
    ],
)
def test_what_is_not_a_number_for_each_completion_names_reward_sample_file_and_line(
    tmp_path, returned, message
):
    code = f"import numpy as np\n\ndef f(completions, samples):\n    return {returned}\nREWARDS = {{'mine': f}}\n"
    with pytest.raises(LmrlBenchError, match=rf"reward 'mine' \(.*plugin\.py:3\): {message}"):
        rewards_of(task_with(tmp_path, code))


RAISES = """
def value(text, sample):
    if sample.id.endswith("-2"):
        return {}["label"]
    return 1.0

def f(completions, samples):
    return [value(c, s) for c, s in zip(completions, samples)]

REWARDS = {"mine": f}
METRICS = {"my-metric": f}
"""


def test_an_exception_names_file_line_and_sample(tmp_path):
    task = task_with(tmp_path, RAISES)
    expected = r"plugin\.py:4: KeyError: 'label' while scoring sample 'test-2' \(reward 'mine'\)"
    with pytest.raises(LmrlBenchError, match=expected) as caught:
        rewards_of(task)
    assert isinstance(caught.value.__cause__, KeyError)
    wanted = r"plugin\.py:4: KeyError: 'label' while scoring sample 'train-2'"
    with pytest.raises(LmrlBenchError, match=wanted):
        preview(task)
    findings = [finding.message for finding in lint(task)]
    assert any("plugin.py:4: KeyError: 'label' while scoring" in found for found in findings)


def test_an_exception_of_a_metric_function_names_file_line_and_sample(tmp_path):
    metrics = {"primary": {"name": "my-metric"}, "held_out": [{"name": "chrf"}]}
    task = task_with(tmp_path, RAISES, metrics=metrics)
    wanted = r"plugin\.py:4: KeyError: 'label' while scoring sample 'test-2' \(metric 'my-metric'\)"
    with pytest.raises(MetricError, match=wanted):
        task.metric("my-metric").score(TEXTS, task.samples("test")[:3])


def test_an_exception_of_a_whole_batch_names_the_batch(tmp_path):
    code = "def f(completions, samples):\n    assert len(samples) < 2\n    return [1]\nREWARDS = {'mine': f}\n"
    wanted = r"plugin\.py:2: AssertionError while scoring 3 samples from 'test-0' to 'test-2'"
    with pytest.raises(LmrlBenchError, match=wanted):
        rewards_of(task_with(tmp_path, code))


CLASS = """
from lmrl_bench.rewards import RewardFunction, RewardOutput
import numpy as np

class Mine(RewardFunction):
    name, signature = "mine", "mine|v1"

    def __init__(self, fail="never"):
        self.fail = fail
        if fail == "made":
            raise KeyError("made")

    def prepare(self, samples):
        if self.fail == "prepare":
            raise KeyError("prepare")

    def __call__(self, batch):
        if self.fail == "list":
            return [1.0] * len(batch)
        if self.fail == "text":
            return RewardOutput(["1.0"] * len(batch))
        for sample in batch.samples:
            if self.fail == sample.id:
                raise KeyError(sample.id)
        return RewardOutput(np.ones(len(batch)))

REWARDS = {"mine": Mine}
"""


@pytest.mark.parametrize(
    ("fail", "message"),
    [
        ("made", r"plugin\.py:11: KeyError: 'made' while reward 'mine' was made"),
        ("prepare", r"plugin\.py:15: KeyError: 'prepare' while reward 'mine' was prepared"),
        ("test-1", r"plugin\.py:24: KeyError: 'test-1' while scoring sample 'test-1'"),
        ("list", r"reward 'mine' \(.*plugin\.py:5\): returned list; return RewardOutput"),
        ("text", r"reward 'mine' \(.*plugin\.py:5\): returned '1.0' for sample 'test-0'"),
    ],
)
def test_an_exception_of_a_class_names_file_and_line(tmp_path, fail, message):
    task = task_with(tmp_path, CLASS, args={"fail": fail})

    def prepare_and_score():
        task.reward().prepare(task.samples("test"))
        rewards_of(task)

    with pytest.raises(LmrlBenchError, match=message):
        prepare_and_score()


ARGUMENTS = """
from __future__ import annotations
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from lmrl_bench.data.sample import Sample

def f(completions: list[str], samples: list[Sample], *, factor: float, power: int = 1):
    return [factor * len(c) ** power for c in completions]

REWARDS = {"mine": f}
"""


def test_args_go_to_the_parameters_and_are_checked(tmp_path):
    assert rewards_of(task_with(tmp_path, ARGUMENTS, args={"factor": 0.5})) == [6.0, 0.0, 0.5]
    for args, message in [
        ({"factor": "x"}, "argument 'factor' is 'x': .*valid number"),
        ({"factor": 1, "pover": 2}, "unknown argument 'pover'; did you mean 'power'"),
        ({"factor": 1, "power": 1.5}, "argument 'power' is 1.5"),
    ]:
        with pytest.raises(LmrlBenchError, match=f"reward 'mine': .*{message}"):
            task_with(tmp_path, ARGUMENTS, args=args, folder=str(args)).reward()


def test_a_required_parameter_is_an_argument_or_a_field_of_meta(tmp_path):
    code = (
        "def f(completions, label):\n    return [float(l == 'positive') for l in label]\n"
        "REWARDS = {'mine': f}\n"
    )
    assert rewards_of(task_with(tmp_path, code)) == [1.0, 0.0, 1.0]
    task = task_with(tmp_path, code.replace("label", "lable"), folder="two")
    with pytest.raises(LmrlBenchError, match=r"parameter 'lable' is neither .* sample 'test-0'"):
        rewards_of(task)


def test_keyword_arguments_get_the_fields_of_meta(tmp_path):
    code = (
        "def f(prompts, completions, references, **kwargs):\n"
        "    return [len(p) + len(r) + (l == 'positive')\n"
        "            for p, r, l in zip(prompts, references, kwargs['label'])]\n"
        "REWARDS = {'mine': f}\n"
    )
    task = task_with(tmp_path, code)
    lengths = [len(sample.prompt) + 1 for sample in task.samples("test")[:3]]
    assert rewards_of(task) == [lengths[0] + 1, lengths[1], lengths[2] + 1]
    assert task.reward().needs == {"prompt", "references"}


def test_the_signature_follows_file_and_arguments(tmp_path):
    first = task_with(tmp_path, ARGUMENTS, args={"factor": 0.5}).reward().signature
    again = task_with(tmp_path, ARGUMENTS, args={"factor": 0.5}, folder="b").reward().signature
    other = task_with(tmp_path, ARGUMENTS, args={"factor": 1.0}, folder="c").reward().signature
    edited = ARGUMENTS.replace("** power", "** power + 0")
    changed = task_with(tmp_path, edited, args={"factor": 0.5}, folder="d").reward().signature
    assert first == again
    assert len({first, other, changed}) == 3
    assert "/" not in first


METRIC = """
from lmrl_bench.metrics import metric

@metric(bounds=(0, 10), higher_is_better=False, needs=["references"])
def short(completions, samples):
    return [len(c.split()) for c in completions]

def plain(completions, samples):
    return [len(c) for c in completions]

METRICS = {"short": short, "plain": plain}
"""


def test_a_function_is_a_metric_and_so_a_reward(tmp_path):
    metrics = {"primary": {"name": "short"}, "held_out": [{"name": "plain"}]}
    task = task_with(tmp_path, METRIC, name="short", metrics=metrics)
    short, plain = task.metrics().values()
    result = short.score(TEXTS, task.samples("test")[:3])
    assert (result.value, result.per_sample.tolist()) == (pytest.approx(4 / 3), [3, 0, 1])
    assert (short.bounds, short.higher_is_better, short.needs) == ((0, 10), False, {"references"})
    assert (plain.bounds, plain.higher_is_better) == ((-math.inf, math.inf), True)
    assert rewards_of(task) == pytest.approx([0.7, 1.0, 0.9])
    with pytest.raises(MetricError, match=r"returned 11 for sample 'test-0'.*bounds 0 to 10"):
        short.score(["x " * 11], task.samples("test")[:1])
    with pytest.raises(LmrlBenchError, match="no finite bounds"):
        task_with(tmp_path, METRIC, name="plain", folder="two").reward()


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("REWARDS = {'mine': 5}", r"REWARDS\['mine'\] is 5; give a function"),
        ("REWARDS = {'mine': dict}", r"REWARDS\['mine'\] is the class dict; .*subclass of"),
        ("REWARDS = {'mine': 'f'}", r"is 'f'; give a function"),
        ("REWARDS = [len]", "REWARDS is a list; give a mapping"),
        ("REWARDS = {'a/b': len}", r"REWARDS\['a/b'\]: names consist of letters"),
        ("REWARDS = {'chrf': len}", "defines 'chrf', a name already used by lmrl-bench"),
        ("REWARDS = {'length-penalty': len}", "'length-penalty', a name already used"),
        (CLASS.replace('= {"mine": Mine}', "= {'mine': Mine()}"), "give its class, Mine"),
        (CLASS.replace("REWARDS", "METRICS"), r"METRICS\['mine'\] is the class Mine"),
        ("x = 1", "must define METRICS, REWARDS or the function `read"),
        ("reward = {'mine': len}", "must define .*; rename reward"),
        ("import os\n\nos.nothing", r"plugin\.py:3: cannot be imported: AttributeError"),
        ("x = (\n", r"plugin\.py:1: cannot be imported: SyntaxError"),
        ("import sys\nsys.exit(3)", r"plugin\.py:2: cannot be imported: SystemExit: 3"),
        ("async def f(completions, samples):\n    return 1\nREWARDS = {'mine': f}", "async"),
        ("def f():\n    return 1\nREWARDS = {'mine': f}", "no parameter for the completions"),
    ],
)
def test_an_unusable_plugin_is_named(tmp_path, code, message):
    with pytest.raises(LmrlBenchError, match=rf"plugin\.py.*{message}|{message}"):
        rewards_of(task_with(tmp_path, code))


def test_a_plugin_that_exits_while_scoring_does_not_end_the_process(tmp_path):
    code = "import sys\ndef f(completions, samples):\n    sys.exit(0)\nREWARDS = {'mine': f}\n"
    wanted = r"plugin\.py:3: SystemExit: 0 while scoring sample 'test-0'"
    with pytest.raises(LmrlBenchError, match=wanted):
        rewards_of(task_with(tmp_path, code))


def test_not_finite_is_its_own_error_so_that_runs_are_recorded_as_diverged(tmp_path):
    code = "def f(completions, samples):\n    return [float('nan')] * 3\nREWARDS = {'mine': f}\n"
    with pytest.raises(RewardNotFiniteError):
        rewards_of(task_with(tmp_path, code))


def test_two_tasks_may_use_one_name(tmp_path):
    code = "def f(completions, samples):\n    return [{}] * 3\nREWARDS = {{'mine': f}}\nMETRICS = {{'m': f}}\n"
    metrics = {"primary": {"name": "m"}, "held_out": [{"name": "chrf"}]}
    first = task_with(tmp_path, code.format(1), metrics=metrics, folder="a")
    second = task_with(tmp_path, code.format(2), metrics=metrics, folder="b")
    assert rewards_of(first) == [1, 1, 1]
    assert rewards_of(second) == [2, 2, 2]
    samples = first.samples("test")[:3]
    assert [task.metric("m").score(TEXTS, samples).value for task in (first, second)] == [1, 2]
    other = task_with(tmp_path, "METRICS = {}", folder="c")
    with pytest.raises(LmrlBenchError, match="unknown reward or metric 'mine'"):
        other.reward()


def test_data_classes_work_in_a_plugin(tmp_path):
    code = (
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "@dataclass\nclass Point:\n    x: int\n"
        "def f(completions, samples):\n    return [Point(3).x] * 3\nREWARDS = {'mine': f}\n"
    )
    assert rewards_of(task_with(tmp_path, code)) == [3, 3, 3]


def test_code_of_a_foreign_folder_is_announced_once(tmp_path, capsys):
    task = task_with(tmp_path, CLASS)
    assert capsys.readouterr().err == ""
    rewards_of(task)
    rewards_of(Task(task.folder))
    assert capsys.readouterr().err == f"runs {task.folder / 'plugin.py'}\n"


def test_a_metric_class_without_bounds_or_result_is_named(tmp_path):
    code = (
        "from lmrl_bench.metrics import Metric\n"
        "class M(Metric):\n    signature = 'm'\n{}"
        "    def score(self, completions, samples):\n        return 1.0\nMETRICS = {{'mine': M}}\n"
    )
    with pytest.raises(MetricError, match=r"metric 'mine' \(.*plugin\.py:2\): bounds is None"):
        task_with(tmp_path, code.format("")).reward()
    task = task_with(tmp_path, code.format("    bounds = (0, 1)\n"), folder="two")
    with pytest.raises(MetricError, match=r"score\(\) returned float; return MetricResult"):
        rewards_of(task)


def test_an_unreadable_plugin_is_a_task_error(tmp_path):
    with pytest.raises(TaskError, match=r"plugin\.py"):
        task_with(tmp_path, "x = '\x00'").reward()


@pytest.mark.parametrize(
    "statement",
    [
        "raise BaseException('no')",
        "raise GeneratorExit",
        "raise KeyboardInterrupt",
        "raise Own",
        "raise Mute",
    ],
)
def test_whatever_a_function_raises_is_one_message(tmp_path, statement):
    code = (
        "class Own(BaseException): pass\n"
        "class Mute(Exception):\n    def __str__(self): raise ValueError\n"
        f"def f(completions):\n    {statement}\nREWARDS = {{'mine': f}}\n"
    )
    with pytest.raises(LmrlBenchError, match=r"plugin\.py:5: .* while scoring sample"):
        rewards_of(task_with(tmp_path, code))


@pytest.mark.parametrize("statement", ["raise BaseException", "raise KeyboardInterrupt"])
def test_whatever_an_import_raises_is_one_message(tmp_path, statement):
    with pytest.raises(TaskError, match=r"plugin\.py:1: cannot be imported"):
        rewards_of(task_with(tmp_path, f"{statement}\nREWARDS = {{}}\n"))


def test_ctrl_c_in_a_function_is_the_users(tmp_path):
    code = (
        "import os, signal, time\n"
        "def f(completions):\n    os.kill(os.getpid(), signal.SIGINT)\n    time.sleep(5)\n"
        "REWARDS = {'mine': f}\n"
    )
    # A suite that a shell started in the background ignores Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            rewards_of(task_with(tmp_path, code))
    finally:
        signal.signal(signal.SIGINT, before)


def test_what_a_plugin_prints_is_not_a_result(tmp_path, capsys):
    code = (
        "print('imported')\n"
        "def f(completions):\n    for c in completions:\n        print('scored')\n        yield 1.0\n"
        "REWARDS = {'mine': f}\n"
    )
    assert rewards_of(task_with(tmp_path, code)) == [1.0, 1.0, 1.0]
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "imported" in printed.err
    assert "scored" in printed.err


def test_rows_that_are_not_mappings_are_refused(tmp_path):
    spec = definition()
    spec["data"]["reader"] = "plugin"
    made = write_task(tmp_path / "one", spec)
    (made / "plugin.py").write_text("def read(spec, split, path):\n    yield 5\n")
    with pytest.raises(TaskError, match=r"row 1: read\(\) returned 5; return a mapping"):
        Task(made).samples("train")


def test_a_metric_of_a_corpus_is_refused_as_a_reward_when_the_task_is_opened(tmp_path):
    made = write_task(tmp_path, definition(reward={"terms": [{"name": "msttr"}]}, metrics=DEFAULT))
    with pytest.raises(LmrlBenchError, match="'msttr' exists only for a corpus"):
        Task(made).reward()
