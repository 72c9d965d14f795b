"""PostgreSQL for Django, with or without TimescaleDB: one engine and one migration history."""
