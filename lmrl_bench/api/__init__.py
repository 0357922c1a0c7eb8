"""The Python calls behind the commands: each command of `lmrl-bench` parses, calls one of these, and prints.

They are reached as attributes of the package (`lmrl_bench.run_leaderboard`), which imports what a call needs only
when the call is looked up.
"""
