"""What runs on the other side of the wall: the supervisor of one sandboxed function, its checker and its program.

A separate interpreter loads this folder as a package of its own, with the standard library only. To start fast its
modules import next to nothing, and each other relatively.
"""
