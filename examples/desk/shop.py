"""The vendor's settings, which become part of the packaged program."""

SERVER = "http://127.0.0.1:8000"

# The complete output of `scripts/cardctl key export`. It is public, but it decides which server is trusted: keep it in
# the code, not in a separate file that anybody can replace.
PUBLIC_KEYS = """
"""

# The customers' cards are bound to a string that depends on this name: never change it after a release.
PROGRAM = "kadun-desk"

LANGUAGE = "zh"  # or "en": of all messages
VERSION = "1.0"  # of this program: dotted numbers, higher with each release. Servers of release 1.0 refuse it
SELF_SERVICE = False  # True offers unbinding; the server's terms must allow it
HARDWARE = None  # or your own string that identifies the machine, such as the serial number of a dongle
CORE = "tariff.json.age"  # beside the program
CA_FILE = ""  # beside the program: the PEM file of a private CA, if the server has no public certificate
HEARTBEAT_SECONDS = 300
