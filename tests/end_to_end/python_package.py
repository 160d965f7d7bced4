"""Packages that a test may want from the network, in a virtual environment of the build folder."""

import importlib
import os
import subprocess
import sys

SKIPPED = 77
INSTALL_S = 240


def find_package(module, *requirements):
    """Goes on in an interpreter that has the module, or ends the test as skipped."""
    try:
        return importlib.import_module(module)
    except ImportError:
        pass
    folder = os.environ.get("MOIRA_VENV")
    if not folder or os.environ.get("MOIRA_VENV_ENTERED"):
        print(f"skipped: the package `{module}` cannot be imported")
        sys.exit(SKIPPED)
    python = os.path.join(folder, "bin", "python")
    try:
        if not os.path.exists(python) or subprocess.run([python, "-c", f"import {module}"], check=False).returncode != 0:
            subprocess.run([sys.executable, "-m", "venv", folder], check=True, timeout=INSTALL_S)
            subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements],
                           check=True, timeout=INSTALL_S)
    except (OSError, subprocess.SubprocessError) as why:
        print(f"skipped: the package `{module}` is not here and cannot be installed ({why})")
        sys.exit(SKIPPED)
    os.environ["MOIRA_VENV_ENTERED"] = "1"
    os.execv(python, [python, "-B", *sys.argv])
