"""Licensed files."""
