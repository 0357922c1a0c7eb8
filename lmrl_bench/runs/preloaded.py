"""What every worker needs: imported once, by the process that workers are forked from (`pool.start_server`)."""

import gc
import signal

from lmrl_bench.garbage import collector_off

with collector_off():
    import lmrl_bench.runs.execute  # noqa: F401
gc.freeze()  # so that a worker's collector does not touch, and thereby copy, what all of them share
# Who stops a whole group of processes leaves it to the workers to end; without the server they would count as dead.
# They take TERMs that come before they can handle one from here: blocked, these wait.
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
