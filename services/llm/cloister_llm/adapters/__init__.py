"""Fine-tuned models: LoRA adapters that this pod serves beside its model, loaded and taken out while it runs."""

from cloister_llm.adapters.engine import VllmLoras
from cloister_llm.adapters.service import Adapters

__all__ = ["Adapters", "VllmLoras"]
