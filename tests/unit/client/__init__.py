"""The SDK, against forged servers."""
