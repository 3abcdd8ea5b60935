"""The kernel runner for Python; `supervisor.py` tells how it works.

    python3 runner.py --run-dir DIR --home DIR [--output-limit BYTES]
    python3 runner.py --compile     once per interpreter, where this directory may be written: saves 20 ms at each start

This file is short because Python compiles the main program anew each time.
"""

import sys

if sys.argv[1:] == ['--compile']:
    import compileall
    import os

    sys.exit(0 if compileall.compile_dir(os.path.dirname(os.path.abspath(__file__)), quiet=2) else 1)

import supervisor

supervisor.main(sys.argv[1:])
