"""Ray, wherever we use it: how it is imported, and which cluster a program is connected to.

    connection        `ray_module` imports, `connected` connects for the length of a block
    without_amdsmi    goes before a package that would keep Ray from being imported

Knows nothing of models, so training, batches and serving stand on it alike.
"""
