"""Plans, launches and guards one vLLM pod."""
