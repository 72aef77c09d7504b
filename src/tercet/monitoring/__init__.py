"""Watching the program at work. `energy` reads what the processor's own counters say a piece of work cost.

What no counter measures is told as "not measured": nothing here is estimated.
"""
