"""Fan-outs: their records in Redis, the accounting of children, and the calls that start and watch them."""
