"""The door: logging in, how often it may be tried, the second factor, how long a session lasts."""
