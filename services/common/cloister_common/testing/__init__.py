"""Fakes of our own services for tests, proved equal to the real ones by the contract tests."""
