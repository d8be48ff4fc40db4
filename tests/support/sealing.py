"""The key that the tests' services seal secrets with."""

from app.tokens.sealing_key import SealingKey

SEALING_KEY = "5a" * 32
SEALING = SealingKey(SEALING_KEY)
