from tests.infer.fixtures import model, tokenizer

__all__ = ["model", "tokenizer"]
