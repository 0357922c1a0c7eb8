"""Checks of results that somebody wants to add to a board, before anybody believes them.

Everything here is plain data and needs no torch; what needs the task itself is in `lmrl_bench.runs`.
"""
