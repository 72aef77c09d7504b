"""Neighbours: Tercet's kernels inside other people's programs.

    transformers      the linear layers of a loaded model, swapped for ours and back

Each module needs the package that it is named after, and says so when that is not installed.
"""
