"""Proves an installation on the machine at hand and measures what it will do (``tffold-check``)."""
