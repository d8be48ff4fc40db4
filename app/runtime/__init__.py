"""What every layer may use beside the standard library."""
