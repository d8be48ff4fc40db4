"""What the vendor sets before the program is packaged; it becomes part of the program."""

SERVER = "http://127.0.0.1:8000"

# The whole output of `scripts/cardctl key export`. Public, but it decides who is believed: keep it in the program's
# code, not in a file beside it that anybody can replace.
PUBLIC_KEYS = """
"""

# The customers' cards are bound under this name, so a released program keeps it for ever.
PROGRAM = "kadun-desk"

HARDWARE = None  # or a string of your own that tells machines apart, a dongle's serial number for instance
CORE = "tariff.json.age"  # beside the program
CA_FILE = ""  # beside the program too: the PEM file of a private CA, where the server has no public certificate
HEARTBEAT_SECONDS = 300
