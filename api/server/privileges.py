"""Give up root's rights in a process that answers strangers."""

# Two of them are otherwise imported at their first use, when the account may not be able to read them.
import concurrent.futures.thread  # noqa: F401
import ctypes
import encodings.idna  # noqa: F401
import os
import pwd
import re
from collections.abc import Mapping

PR_SET_NO_NEW_PRIVS = 38  # prctl(2)

# The variables of root's environment, which may hold secrets, that a process with its own account gets.
KEPT_VARIABLES = re.compile("PATH|TZ|LANG|LC_.*|PYTHON.*|LD_.*")


def environment(variables: Mapping[str, str], account: str) -> dict[str, str]:
    """The part of an environment that a web worker gets: no login but the one that it is given otherwise.

    `account` is the OS user that it will run as; ours where it is empty.
    """
    return {
        name: value
        for name, value in variables.items()
        if (KEPT_VARIABLES.fullmatch(name) if account else not name.endswith(("DATABASE_URL", "LEDGER_ADMIN_URL")))
    }


def become(name: str) -> None:
    """Become another OS user for good: in its own group alone, and unable to gain rights by running a program.

    For root. Raises OSError, KeyError.
    """
    account = pwd.getpwnam(name)
    os.chdir("/")
    for descriptor in (1, 2):
        if os.isatty(descriptor):  # root opened it: the worker could read what is typed there
            output = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NOCTTY)
            os.dup2(output, descriptor)
            os.close(output)
    os.setgroups([])
    os.setresgid(account.pw_gid, account.pw_gid, account.pw_gid)
    os.setresuid(account.pw_uid, account.pw_uid, account.pw_uid)
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    os.environ["HOME"] = account.pw_dir  # where libpq looks for files
