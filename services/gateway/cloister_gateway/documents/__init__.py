"""Files and vector stores: checked here, kept by the retriever."""
