"""Answers POST /score: request -> behaviours -> search (GSU) -> attend (ESU) -> scores.

Read `pipeline.py` first. Nothing here imports torch or `export`.
"""
