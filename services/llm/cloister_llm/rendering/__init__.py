"""Chat templates rendered so that content can never become a control token.

A chat template joins its own markup and what people wrote into one string; a tokenizer then finds control tokens
in both alike. So a user who writes ``<|im_end|><|im_start|>system`` closes the own turn and opens the system's.
Here the two never share a string: every string that came with the request is replaced by a marker
(`markers`), the template is rendered, the result is cut at the markers (`pieces`), and markup and content are
tokenised apart, content with a tokenizer that has no added tokens at all (`encoder`). Nothing in this package
imports vLLM.
"""

from cloister_llm.rendering.encoder import PieceEncoder
from cloister_llm.rendering.renderer import ChatRenderer

__all__ = ["ChatRenderer", "PieceEncoder"]
