"""Data at rest, and whatever training and serving must agree on.

`service -> store <- export`: both sides import this package, it imports neither of them.
"""
