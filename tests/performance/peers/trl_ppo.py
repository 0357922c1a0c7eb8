"""TRL's last PPO (trl 1.12, in an environment of its own) as a side; it waits for the word before each rollout.

It wants a reward model; a stand-in takes its place, whose score is the plain function. The critic is a model of
its own, made from the policy's weights. bf16 and gradient checkpointing are off.
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
KL_COEFFICIENT = 0.05


def settings(material: Material, folder: str, device: str) -> dict:
    workload = material.workload
    assert workload.minibatch_episodes == workload.episodes, "TRL's own minibatches are not matched"
    return dict(
        output_dir=folder,
        per_device_train_batch_size=workload.micro_batch,
        gradient_accumulation_steps=workload.episodes // workload.micro_batch,
        num_mini_batches=1,
        num_ppo_epochs=workload.epochs,
        local_rollout_forward_batch_size=workload.episodes,
        completion_length=workload.completion_tokens,
        total_episodes=workload.episodes * 10**5,
        temperature=1.0,
        kl_coef=KL_COEFFICIENT,
        learning_rate=workload.learning_rate,
        lr_scheduler_type="constant",
        num_sample_generations=0,
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
    assert algorithm == "ppo"
    channel = Channel()
    try:
        import torch
        import trl.experimental.ppo.ppo_trainer as ppo
        from datasets import Dataset
        from transformers import AutoModelForSequenceClassification, TrainerCallback
        from transformers.trainer_callback import PrinterCallback
        from trl.experimental.ppo import PPOConfig, PPOTrainer
    except ImportError as error:
        channel.unavailable(str(error))
        return
    torch.set_num_threads(1)
    material = Material(Path(folder))
    workload = material.workload
    tokenizer = material.tokenizer()
    watch = Stopwatch(device)

    class Rounds(TrainerCallback):
        """TRL calls it once per rollout."""

        generate_s = 0.0

        def on_train_begin(self, args, state, control, **kwargs):
            self.wait()

        def on_step_end(self, args, state, control, **kwargs):
            played = Played(self.generate_s, workload.tokens, workload.steps)
            channel.report(watch.stop(played))
            self.wait()

        def wait(self):
            if not channel.next():
                sys.exit()
            watch.start()

    class NoModel(torch.nn.Module):
        pass

    rounds, score_of_model, generate = Rounds(), ppo.get_reward, ppo.batch_generation

    def score(model, ids, pad, context):
        if not isinstance(model, NoModel):
            return score_of_model(model, ids, pad, context)
        texts = tokenizer.batch_decode(ids[:, context:], skip_special_tokens=True)
        return None, torch.tensor([share_of_e(text) for text in texts], device=ids.device), None

    def timed(model, queries, size, pad, config):
        config.min_new_tokens = workload.completion_tokens
        config.eos_token_id = tokenizer.eos_token_id
        started = time.perf_counter()
        found = generate(model, queries, size, pad, config)
        finish(torch.device(device))
        rounds.generate_s = time.perf_counter() - started
        assert found[1].shape[:2] == (workload.episodes, workload.completion_tokens)
        return found

    ppo.get_reward, ppo.batch_generation = score, timed
    rows = [{"input_ids": tokenizer(text).input_ids} for text in material.prompts]
    critic = AutoModelForSequenceClassification.from_pretrained(
        material.model_folder, num_labels=1, dtype=torch.float32
    )
    with tempfile.TemporaryDirectory() as output:
        trainer = PPOTrainer(
            args=PPOConfig(**settings(material, output, device)),
            processing_class=tokenizer,
            model=material.model(),
            ref_model=material.model(),
            reward_model=NoModel(),
            value_model=critic,
            train_dataset=Dataset.from_list(rows),
            eval_dataset=Dataset.from_list(rows),
            callbacks=[rounds],
        )
        trainer.remove_callback(PrinterCallback)
        channel.ready("trl", "torch", "transformers")
        trainer.train()


if __name__ == "__main__":
    main(*sys.argv[1:])
