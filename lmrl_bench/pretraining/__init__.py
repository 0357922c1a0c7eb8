"""Pretraining of the two nano policies that the package ships.

`python -m lmrl_bench.pretraining causal|seq2seq` makes the folders under
`lmrl_bench/policies/weights` again from the text of the tasks. Nothing in here is needed to use the
policies.
"""
