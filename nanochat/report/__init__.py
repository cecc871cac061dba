"""The report card: a pure function of artifact directories. Imports no torch."""
