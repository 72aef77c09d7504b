"""How good a model is, by figures that can be made again."""
