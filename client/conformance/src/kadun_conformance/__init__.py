"""Conformance kit for clients in any language: sends forged responses and reports which ones the client accepts.

Run `python -m kadun_conformance --help`. `docs/client-authors.md` describes the contract with the client under test.
"""
