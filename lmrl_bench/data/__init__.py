"""From samples to token batches: samples, chat templates, encoding, tokenization, episodes."""
