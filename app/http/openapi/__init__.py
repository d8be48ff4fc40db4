"""The OpenAPI 3.1 document of the public API: clients, shops, and the state of the service."""
