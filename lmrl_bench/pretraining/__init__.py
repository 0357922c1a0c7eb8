"""Pretraining of the nano policies shipped with the package.

`python -m lmrl_bench.pretraining causal|seq2seq|skills` rebuilds the folders in
`lmrl_bench/policies/weights` from the texts of the tasks, or from generated strings (`skills`).
Start with `recipes`, the hyper-parameters, and `runs` and `skill_policies`, which assemble a run
from them. Using the policies requires none of this.
"""
