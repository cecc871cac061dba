"""The embedded world: a seeded generator of text, tasks and an evaluation bundle in the public layout."""
