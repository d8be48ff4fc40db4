"""Operators, their log-ins and ceilings."""
