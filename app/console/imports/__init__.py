"""Imports of other systems' cards."""
