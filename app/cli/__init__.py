"""The operator's command line, one file a command group."""
