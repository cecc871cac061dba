"""Run a command in the foreground of the terminal on standard input, and wait for it as a workflow does."""

import fcntl
import signal
import subprocess
import sys
import termios

if __name__ == "__main__":
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    interrupted = []
    signal.signal(signal.SIGINT, lambda *_: interrupted.append(True))
    code = subprocess.call(sys.argv[1:])
    print(f"the chat ended with {code}{', interrupted' * bool(interrupted)}", flush=True)
    sys.exit(code or len(interrupted))
