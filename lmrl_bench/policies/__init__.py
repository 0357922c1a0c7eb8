"""Policies: the actor-critic for Stable-Baselines3's interface, and its export.

Start with `policy`, the policy that algorithms train; `token_policy` gives it the token view of
environments, `spaces` checks that policy and environment match, and `export` writes trained
policies. The shipped policies are in `weights/`.
"""
