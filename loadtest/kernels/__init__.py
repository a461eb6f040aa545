"""`make bench PART=kernels`: searches, attention and sessions on one core, beside what one would take from a library."""
