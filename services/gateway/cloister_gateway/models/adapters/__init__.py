"""Fine-tuned models: LoRA adapters by name and digest, where they are loaded, and who may ask for them."""
