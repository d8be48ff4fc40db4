"""Measures how fast the service is on this machine, and how near that is to what its parts allow."""
