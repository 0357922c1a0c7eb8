"""How fast: one rollout and update of ours beside bare `generate` plus forward and backward, and beside peers.

Every side runs in a process of its own and plays a round when it is told to, so that rounds alternate.
"""
