"""Models: names, fingerprints, loading and saving, networks and scoring.

Start with `checkpoint.load_checkpoint`, the only place that loads a model, and `networks`, which
wraps causal and encoder-decoder models for policies. By module:

- `names`, `files`, `fingerprints`: from a name to files and their digests (no torch)
- `checkpoint`, `adapters`, `stored`, `facts`, `border`, `limits`, `texts`: loading, and its checks
- `networks`, `causal`, `seq2seq`, `adapter`, `behavior`, `scoring`: forward passes of policies
- `probe`, `storage`: checks of a loaded policy, and saving it
"""
