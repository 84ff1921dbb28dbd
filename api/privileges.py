"""Give up root's rights in a process that answers strangers."""

import ctypes
import os
import pwd

PR_SET_NO_NEW_PRIVS = 38  # linux/prctl.h


def become(name: str) -> None:
    """Go on as another OS user for good, in none but its own group. For root. Raises OSError, KeyError."""
    account = pwd.getpwnam(name)
    os.setgroups([])
    os.setresgid(account.pw_gid, account.pw_gid, account.pw_gid)
    os.setresuid(account.pw_uid, account.pw_uid, account.pw_uid)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    os.environ["HOME"] = account.pw_dir  # where libpq looks for files that only root may read
