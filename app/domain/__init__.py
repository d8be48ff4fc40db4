"""The rules of docs/protocol.md: pure functions and plain data. No clock, no environment, no input or output."""
