"""Runs many planned runs: worker processes, the grid of a leaderboard, and progress."""
