"""A full-precision teacher, a ternary student."""
