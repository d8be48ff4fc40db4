"""Falcon's side: resources, schemas, problems. The only place that knows status codes."""
