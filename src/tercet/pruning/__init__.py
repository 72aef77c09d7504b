"""Models made smaller by leaving out what contributes nothing, or little."""
