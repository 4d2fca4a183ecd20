"""Structures from sequences or records: targets, models, confidence, files, distillation."""
