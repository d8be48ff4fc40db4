"""The use cases, between the edges (http, console, cli) and the rules.

What asks the database raises DatabaseUnavailableError while it is away; docstrings say so where more follows from it.
"""
