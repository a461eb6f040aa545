"""What tests of the page look at: a heavy user, by two models side by side."""

HEAVY, MODELS = "707", ("eta", "twin")
BESIDE = f"ui?user={HEAVY}&a={MODELS[0]}&b={MODELS[1]}"
