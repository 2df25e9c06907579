"""Actions of our own, with which tasks are looked at and operated over HTTP. Nothing without ``[admin]``."""
