"""Calls of tools: what a forced one is constrained to, how it is read, and how tools reach a template without a place.

A call that the model must make is JSON by the tool's schema, whatever the model's own form of calls is. One that it may
make is read by vLLM's parser for the model. Only `vllm_parser` imports vLLM.
"""
