"""Shops and their API."""
