"""What the process tells Prometheus: reads state that is there anyway, when somebody asks."""
