"""Verifications: rules, terms, blocks and verdicts."""
