"""Mutation testing: change the code in small ways, and require that a test fails for each change.

`python -m tests.mutation` runs mutmut as `[tool.mutmut]` in pyproject.toml says, and compares the mutants that survived
with `equivalent.toml`.
"""
