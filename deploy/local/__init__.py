"""The whole of Cloister on one machine, for `make run` and the end-to-end tests: every part real, nothing shared.

    python -m deploy.local [--var DIR] [--config FILE]

Read `parts` for what is started in which order, `process` and `watchdog` for how nothing is left behind.
"""
