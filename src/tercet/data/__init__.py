"""Examples to train on: files in the usual shapes to token ids with a loss mask."""
