"""The database: tables, statements, journal, usage, migrations."""
