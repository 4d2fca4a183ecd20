"""Training: step, optimizer, schedule, loop, checkpoints and what watches them."""
