"""The untrusted side: execute a model's code, then answer calls of its function.

Everything here runs in the interpreter of that code and may be changed by it. Nothing that decides is here.
"""

import os
import sys

from . import channel, literals

EXCEPTION, EXIT = 70, 71
"""Exit codes of a program whose definitions raise, and of one that leaves by SystemExit."""
_MESSAGE = 1000


def run(source: bytes, entry_point: str, requests: int, answers: int) -> None:
    """Execute the source as the module `program` and serve its function `entry_point`. Never returns.

    Args:
        source: of the program.
        entry_point: the function's name.
        requests: the pipe that calls come from.
        answers: the pipe that results go to.
    """
    module = type(sys)("program")
    sys.modules["program"] = module
    sys.argv = ["program.py"]
    if b"random" in source:
        _seed_random()
    code = EXCEPTION
    try:
        exec(compile(source, "program.py", "exec"), module.__dict__)
        function = module.__dict__.get(entry_point)
        if not callable(function):
            raise NameError(f"the program defines no function {entry_point}")
        channel.send(answers, channel.READY)
        while True:
            channel.send(answers, _answer(function, channel.receive(requests)))
    except SystemExit:
        code = EXIT
    except EOFError:
        code = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    os._exit(code)


def _seed_random() -> None:
    """Have a program that draws do so alike in every run."""
    import random

    random.seed(0)


def _answer(function: object, request: bytes) -> bytes:
    """The message that answers a call."""
    arguments, keywords = literals.decode(request)
    try:
        result = function(*arguments, **keywords)
    except SystemExit:
        raise
    except BaseException as error:
        return channel.ERROR + literals.encode((type(error).__name__, str(error)[:_MESSAGE]))
    try:
        return channel.RESULT + literals.encode(_plain(result))
    except literals.LiteralError as error:
        return channel.UNSENDABLE + literals.encode(str(error)[:_MESSAGE])


def _plain(result: object) -> object:
    """The standard library's own kinds of dict as the dicts they are equal to."""
    collections = sys.modules.get("collections")
    if collections and type(result) in (collections.Counter, collections.defaultdict, collections.OrderedDict):
        return dict(result)
    return result
