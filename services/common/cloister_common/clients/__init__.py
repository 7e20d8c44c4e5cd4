"""Clients of our own services, each with a fake in `cloister_common.testing` that contract tests prove equal."""
