"""A ternary model trained further on examples of what it should do, and exported to what was measured."""
