"""From shards to batches: a flat list of transforms (supplement 1.2)."""
