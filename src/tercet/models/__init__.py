"""What a model is: its config, the names of its tensors, finding and loading it."""
