"""A conformance kit for clients in any language: a server that lies, and the list of what was believed.

Run `python -m kadun.hostile --help`. The contract with the client under test stands in `docs/client-authors.md`.
"""
