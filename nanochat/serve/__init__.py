"""Talking to a trained model: one core (registry, session, events) that the window, the terminal and an API share."""
