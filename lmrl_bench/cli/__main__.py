"""`python -m lmrl_bench.cli` is `lmrl-bench`."""

from lmrl_bench.cli import main

if __name__ == "__main__":
    main()
