"""What hosts report about themselves in the database."""

REPORT = {"version": "1.0", "schema": "0005_now", "kid": "K", "functions_sha256": "f" * 64, "clock_offset_ms": 0}
