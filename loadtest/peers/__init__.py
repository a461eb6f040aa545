"""`make bench PART=peers`: what one would take instead, beside ours."""
