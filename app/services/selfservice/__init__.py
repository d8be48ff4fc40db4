"""What customers do themselves."""
