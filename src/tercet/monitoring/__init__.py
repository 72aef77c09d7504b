"""What a service and its machine do, counted while it happens, remembered, and judged.

**Now**: `metrics` are the counts of a service, `catalogue` their names and meanings, `exposition` the text
that Prometheus reads; `machine` and `energy` (`energy_counters`) ask the system. **Over time**: the
difference of two `readings` is a snapshot (`snapshots`, durations as a `distribution`), which a `sampler`
takes every so often; `history` keeps them in a file (`history_file`), where old ones are joined to `spans`;
`summary` and `export` tell of a stretch of it. **What is wrong**: `watchers` judge every snapshot, as
`alerts` do.

**Where it goes**: `step_profile` (with `stack_samples`, drawn by `flame_graph`) says what a token's time went
to, `footprint` what it cost in energy and CO2.

`monitor` is all of this as one object, for a service or for a program with an engine of its own.

What nothing measures is told as "not measured", or None: nothing here is estimated.
"""
