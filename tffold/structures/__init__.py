"""Structures: files and relaxation."""
