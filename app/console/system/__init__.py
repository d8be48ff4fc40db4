"""The service itself: its start, health, machines and periodic work."""
