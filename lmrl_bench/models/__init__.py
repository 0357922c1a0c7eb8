"""Models: their names, their fingerprints, and the one place that loads them."""
