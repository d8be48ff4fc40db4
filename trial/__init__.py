"""The trial service behind scripts/run.sh: an embedded PostgreSQL, the service, and a demonstration."""
