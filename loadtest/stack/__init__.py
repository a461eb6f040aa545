"""`make stack-test`: the compose stack built, started, used and removed."""
