"""The vendor's programs."""
