"""Pretraining of the two nano policies shipped with the package.

`python -m lmrl_bench.pretraining causal|seq2seq` rebuilds the folders in
`lmrl_bench/policies/weights` from the texts of the tasks. Start with `recipes`, the
hyper-parameters, and `runs`, which assembles a run from them. Using the policies requires none of
this.
"""
