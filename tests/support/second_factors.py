"""The key that the tests' services seal second factors with."""

from app.storage.models import Operator
from app.tokens.second_factors import SecondFactors

TOTP_KEY = "5a" * 32
FACTORS = SecondFactors(TOTP_KEY)


def give_secret(name: str, secret: str) -> None:
    """Give an operator a second factor, behind the service's back."""
    operator = Operator.get(Operator.name == name)
    Operator.update(totp_secret=FACTORS.seal(operator.id, secret)).where(Operator.id == operator.id).execute()
