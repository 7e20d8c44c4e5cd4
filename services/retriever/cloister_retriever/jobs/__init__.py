"""Work that outlives the process it was asked of: a durable queue, and the removals in it."""
