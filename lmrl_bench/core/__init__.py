"""The smallest building blocks: errors, registry, seeds, digests, paths, strict JSON. No torch."""
