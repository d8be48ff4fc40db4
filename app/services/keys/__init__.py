"""Signing keys and sealed secrets."""
