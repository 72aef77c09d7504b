"""Measuring speed on the machine at hand, with the machine's own limits measured in the same run.

A figure without its circumstances is a rumour: every report names the machine, the threads and the kernels,
gives the median of several runs with their spread, and sets the speed against the read bandwidth of the
same minute.
"""
