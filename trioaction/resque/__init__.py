"""The Resque wire format, and the keys of a Resque fleet: the only room that spells a ``resque:*`` key."""
