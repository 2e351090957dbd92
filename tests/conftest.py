"""Fixtures that every part of the suite may ask for; nothing starts before it is asked for."""

pytest_plugins = ["tests.fixtures.servers", "tests.fixtures.service"]
