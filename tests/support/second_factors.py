"""The key that the tests' services seal second factors with."""

from app.tokens.second_factors import SecondFactors

TOTP_KEY = "5a" * 32
FACTORS = SecondFactors(TOTP_KEY)
