"""TRL's GRPO and RLOO as a side: its trainer, which waits for the word before each rollout.

bf16 and gradient checkpointing, on by default, are off; so is GRPO's KL, by TRL's own default.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

from harness.material import Material, share_of_e
from harness.side import Channel, Played, Stopwatch, finish

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
BETA = {"grpo": 0.0, "rloo": 0.05}


def settings(material: Material, algorithm: str, folder: str, device: str) -> dict:
    workload = material.workload
    return dict(
        output_dir=folder,
        per_device_train_batch_size=workload.micro_batch,
        gradient_accumulation_steps=workload.minibatch_episodes // workload.micro_batch,
        steps_per_generation=workload.episodes // workload.micro_batch,
        num_iterations=workload.epochs,
        num_generations=workload.group_size,
        max_completion_length=workload.completion_tokens,
        generation_kwargs={"min_new_tokens": workload.completion_tokens},
        beta=BETA[algorithm],
        temperature=1.0,
        learning_rate=workload.learning_rate,
        lr_scheduler_type="constant",
        max_steps=10**6,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        use_cpu=device == "cpu",
        bf16=False,
        gradient_checkpointing=False,
        disable_tqdm=True,
        seed=0,
    )


def main(folder: str, algorithm: str, device: str) -> None:
    channel = Channel()
    try:
        import torch
        import trl
        from datasets import Dataset
        from transformers import TrainerCallback
        from transformers.trainer_callback import PrinterCallback
    except ImportError as error:
        channel.unavailable(str(error))
        return
    torch.set_num_threads(1)
    material = Material(Path(folder))
    workload = material.workload
    watch = Stopwatch(device)

    class Rounds(TrainerCallback):
        """One round: `workload.steps` optimizer steps, of which the first begins with the rollout."""

        generate_s = 0.0

        def on_train_begin(self, args, state, control, **kwargs):
            self.wait()

        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step % workload.steps == 0:
                played = Played(self.generate_s, workload.tokens, workload.steps)
                channel.report(watch.stop(played))
                self.wait()

        def wait(self):
            if not channel.next():
                sys.exit()
            watch.start()

    rounds = Rounds()
    names = {"grpo": "GRPO", "rloo": "RLOO"}[algorithm]
    config, trainer = getattr(trl, f"{names}Config"), getattr(trl, f"{names}Trainer")
    with tempfile.TemporaryDirectory() as output:
        trained = trainer(
            model=material.model(),
            reward_funcs=lambda completions, **_: [share_of_e(text) for text in completions],
            args=config(**settings(material, algorithm, output, device)),
            train_dataset=Dataset.from_dict({"prompt": material.prompts}),
            processing_class=material.tokenizer(),
            callbacks=[rounds],
        )
        trained.remove_callback(PrinterCallback)
        generate = trained._generate_single_turn

        def timed(*args, **kwargs):
            started = time.perf_counter()
            found = generate(*args, **kwargs)
            finish(torch.device(device))
            rounds.generate_s = time.perf_counter() - started
            return found

        trained._generate_single_turn = timed
        channel.ready("trl", "torch", "transformers")
        trained.train()


if __name__ == "__main__":
    main(*sys.argv[1:])
