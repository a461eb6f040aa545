"""Fixtures only: a real store per session, a key prefix per test."""
