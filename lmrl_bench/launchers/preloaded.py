"""Imports that every worker needs, made once by the process that workers are forked from (`pool.start_server`)."""

import gc

from lmrl_bench.speedups.garbage import collector_off

with collector_off():
    import lmrl_bench.runs.execute  # noqa: F401
gc.freeze()  # so that a worker's collector does not touch, and thereby copy, what all of them share
