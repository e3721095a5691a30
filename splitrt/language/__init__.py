"""Language models: decoder, cache, tokens, sampling, drafts and their verification. Tensors only, no wire."""
