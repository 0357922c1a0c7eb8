"""Statistics over seeds and tasks: intervals, aggregates, bootstrap, comparisons. No torch.

Start with `intervals`, for the mean of one task and the difference of two, and `aggregates`, which
combines tasks. `bootstrap` gives intervals of aggregates, `comparisons` handles many entries at
once.
"""
