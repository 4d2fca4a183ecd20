"""What people look at: plots, tubes in space, TensorBoard."""
