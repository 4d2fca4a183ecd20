"""Command lines: they parse arguments, print errors as one line, and call the library."""
