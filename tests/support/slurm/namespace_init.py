"""Process 1 of a namespace: it makes it a host, and waits to be killed.

When it is killed, the kernel kills all that runs in its namespace, so that nothing
escapes, whatever sessions or environments it made for itself.
"""

import os
import signal
import socket
import sys

if __name__ == "__main__":
    _directory, _name = sys.argv[1:]
    # As on a cluster's hosts: all have its configuration, and know each other's names.
    for _ours, _place in (("etc", "/etc/slurm"), ("etc/hosts", "/etc/hosts")):
        _words = ["mount", "--bind", f"{_directory}/{_ours}", _place]
        if (_code := os.spawnvp(os.P_WAIT, "mount", _words)) != 0:
            sys.exit(_code)
    # The kernel then reaps what is orphaned here.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    # Last: by this one sees that the host is up.
    socket.sethostname(_name)
    signal.pause()
