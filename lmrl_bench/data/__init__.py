"""Data on its way to the model: samples, encoded prompts, token batches.

Start with `sample.Sample`, one row of a task, and `tokenization.TextCodec`, the only place where
text becomes token ids and back. `encoding` keeps control tokens out of data, `chat` applies chat
templates, `vocabulary` knows legal ids and end tokens, and `episodes` has the batches that
algorithms train on.
"""
