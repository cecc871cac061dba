"""The side of the tests: execute the data set's helpers and tests, and let them call the program's function.

The function stands in the other process. What comes from there is literals of exact builtin types, whose equality,
order and hash are Python's own: a program can answer rightly or wrongly, and nothing else.
"""

import builtins
import os
import sys

from . import channel, literals

PASSED, FAILED, GONE, BROKEN = b"passed", b"failed", b"gone", b"broken"
"""Verdicts: all assertions hold; one does not, or the program answers what is no literal; the program ended before
its time; the tests themselves do not run, whatever the program."""


class CandidateError(Exception):
    """An exception of the program that is not one of Python's own."""


class NoAnswerError(BaseException):
    """The program ended or does not keep to the protocol; not an Exception, so that tests do not catch it."""


class Candidate:
    """The program's function as the tests call it.

    Args:
        requests: the pipe that calls go to.
        answers: the pipe that results come from.

    Attributes:
        verdict: what the program has forfeited by its answers, None as long as they are in order.
        answered: whether anything at all came from the program.
    """

    def __init__(self, requests: int, answers: int) -> None:
        self._requests, self._answers = requests, answers
        self.verdict: bytes | None = None
        self.answered = False

    def wait(self) -> None:
        """Wait until the program's definitions have been executed.

        Raises:
            NoAnswerError: if they do not come to their end.
        """
        if self._receive() != channel.READY:
            self._forfeit(FAILED, "the program sends an answer before it is asked")

    def __call__(self, *arguments: object, **keywords: object) -> object:
        """Call the function in the other process.

        Raises:
            LiteralError: if the tests hand over what is not a literal.
            CandidateError, or one of Python's exceptions: what the function raised.
            NoAnswerError: if no answer comes, or one that is no literal.
        """
        call = literals.encode((arguments, keywords))
        try:
            channel.send(self._requests, call)
        except OSError:
            self._forfeit(GONE, "the program has ended")
        answer = self._receive()
        self.answered = True
        kind, content = answer[:1], answer[1:]
        try:
            value = literals.decode(content)
        except literals.LiteralError as error:
            self._forfeit(FAILED, f"the program's answer is {error}")
        if kind == channel.RESULT:
            return value
        if kind == channel.ERROR and type(value) is tuple and [type(each) for each in value] == [str, str]:
            raise _exception(*value)
        if kind == channel.UNSENDABLE:
            self._forfeit(FAILED, f"the program's function returns what cannot be compared: {value}")
        self._forfeit(FAILED, f"the program sends a message of unknown kind {kind!r}")

    def _receive(self) -> bytes:
        try:
            return channel.receive(self._answers)
        except EOFError:
            self._forfeit(GONE, "the program has ended")
        except channel.ChannelError as error:
            self._forfeit(FAILED, f"the program sends {error}")

    def _forfeit(self, verdict: bytes, why: str) -> None:
        self.verdict = self.verdict or verdict
        raise NoAnswerError(why) from None


def _exception(name: str, message: str) -> Exception:
    """The exception of this name if it is one of Python's own, so that tests may expect it."""
    kind = getattr(builtins, name, None) if name.isidentifier() else None
    if isinstance(kind, type) and issubclass(kind, Exception):
        try:
            return kind(message)
        except TypeError:  # it wants other arguments
            pass
    return CandidateError(f"{name}: {message}")


def run(support: bytes, tests: bytes, entry_point: str, requests: int, answers: int, verdict: int) -> None:
    """Execute helpers and tests, call `check` with the function, write the verdict. Never returns.

    Args:
        support: source of the helpers the tests may use.
        tests: source that defines `check(candidate)`.
        entry_point: the name under which the tests may also find the function.
        requests: the pipe that calls go to.
        answers: the pipe that results come from.
        verdict: the pipe that the verdict goes to.
    """
    candidate = Candidate(requests, answers)
    names = {"__name__": "tests", "__builtins__": builtins}
    error = None
    begun = False
    try:
        if b"random" in tests:
            import random

            random.seed(0)  # the same inputs in every run
        exec(compile(support, "support.py", "exec"), names)
        names[entry_point] = candidate
        exec(compile(tests, "tests.py", "exec"), names)
        check = names["check"]
        begun = True
        candidate.wait()
        check(candidate)
        word = candidate.verdict or PASSED
    except BaseException as raised:
        error = raised
        unheard = not candidate.answered and (not begun or isinstance(raised, literals.LiteralError))
        word = candidate.verdict or (BROKEN if unheard else FAILED)
    os.write(verdict, word)
    if error is not None:  # printed last, as the program may have stopped up the output
        sys.excepthook(type(error), error, error.__traceback__)
    os._exit(0)
