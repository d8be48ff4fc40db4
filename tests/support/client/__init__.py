"""Helpers of the tests of the same name."""
