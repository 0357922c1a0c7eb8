"""Basic building blocks: errors, registry, seeding, digests, paths, strict JSON. No torch."""
