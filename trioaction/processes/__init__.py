"""Several equal processes under one supervisor, which share a listening socket."""
