"""Wire contracts that more than one service speaks: the caller, the callee and its fake check the same schema."""
