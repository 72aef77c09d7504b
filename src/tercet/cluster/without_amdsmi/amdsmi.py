"""Stands in for the package amdsmi where that does not load, as on every machine without AMD's library.

amdsmi 7.0 then ends its import with a KeyError. Ray's processes import it if it is installed, and are ready
for an ImportError and for nothing else. `tercet.cluster.connection` puts this folder on their path.
"""

raise ImportError("amdsmi is installed and AMD's library is not")
