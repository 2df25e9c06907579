"""``api.tasks``: looks at all that waits, runs or has failed, and operates it. One module per noun."""
