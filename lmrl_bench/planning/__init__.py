"""Resolves what a run needs, once: configuration, initial policy, folder and expected record."""
