"""Redis on Trio: transport, client, scripts, doorbell. Knows nothing of jobs, queues or fan-outs."""
