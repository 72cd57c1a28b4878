"""Become a server: drop root, tie this process's life to its parent's, then exec the program.

Run as a script (``python -I -S launch.py``), with the standard library only, so that it costs some
milliseconds. It is used in place of ``setpriv`` because that is not on every machine. The order matters:
a change of uid clears the parent-death signal.

    launch.py <parent pid> <signal> <uid|-> <gid|-> <program> [argument...]
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(argv: list[str]) -> None:
    """Exec the program named in ``argv``; never returns."""
    parent, death_signal, uid, gid, *command = argv
    if uid != "-":
        os.setgroups([])
        os.setgid(int(gid))
        os.setuid(int(uid))
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != int(parent):  # the parent died before the signal was asked for
        sys.exit(1)
    for number in (signal.SIGINT, signal.SIGPIPE, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    os.execvp(command[0], command)  # noqa: S606 - the launcher's purpose


if __name__ == "__main__":
    main(sys.argv[1:])
