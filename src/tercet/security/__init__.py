"""What protects a service from strangers: keys, limits, filters, records. Pure: no web framework in here."""
