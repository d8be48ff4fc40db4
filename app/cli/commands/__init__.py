"""The commands: a module for each, of its name."""
