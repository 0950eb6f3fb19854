"""Which variables of a user's the publisher is given: those that say how storage is reached, and none that choose what it runs.

The publisher writes what is served. A variable that makes its process load code, find another program, or read settings from a
file (which can name a program) would hand that right to whoever set it, with a file of an earlier version as the code.
"""

from __future__ import annotations

REFUSED_PREFIXES = ("LD_", "PYTHON", "TRAINWRIGHT_", "GCONV_", "GLIBC_", "OPENSSL_")
REFUSED = (
    *("BASH_ENV", "ENV", "HOME", "PATH", "XDG_CONFIG_HOME"),
    *("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "BOTO_CONFIG", "FSSPEC_CONFIG_DIR"),
    *("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES"),
)


def given(name: str) -> bool:
    """Whether the publisher is given the variable."""
    return name not in REFUSED and not name.startswith(REFUSED_PREFIXES)
