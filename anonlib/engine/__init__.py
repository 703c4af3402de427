"""Map a function over shards of work and keep its results by content."""
