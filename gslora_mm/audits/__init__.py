"""Attacks that show what an erasure leaves behind."""
