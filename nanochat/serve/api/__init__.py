"""The OpenAI-compatible API: what is asked for, what is answered, and how both look in JSON."""
