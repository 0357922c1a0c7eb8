"""Statistics over seeds and tasks: intervals, aggregates, bootstrap, comparisons. No torch."""
