"""`make bench PART=store`: bytes and times of the store, freshness of events, tables that are published."""
