"""The command line: an edge that only decodes flags and encodes results."""
