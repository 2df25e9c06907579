"""The HTTP and websocket edge: decodes calls, hands them to the executor, encodes outcomes."""
