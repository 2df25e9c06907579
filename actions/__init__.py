"""The sample application: each action is a class with a name, inputs and ``run()``."""
