"""Sends the requests of webhooks. It knows neither the database nor a key; in containers it is a process of its own."""
