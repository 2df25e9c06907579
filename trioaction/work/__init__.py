"""What runs jobs: the pool, its cycle with Redis, membership in the fleet, rescue and the scheduler."""
