"""The use cases, between the edges (http, cli) and the rules."""
