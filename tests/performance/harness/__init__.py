"""Times one rollout and update against bare `generate` plus forward and backward, and against peers.

Every side runs in a process of its own and plays a round when it is told to, so that rounds alternate.
"""
