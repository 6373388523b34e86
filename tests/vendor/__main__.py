"""Has a vendor's SDK do a task, as JSON on standard input: run by the SDK's environment, with the module's name."""

import importlib
import json
import sys

task = json.load(sys.stdin)
vendor = importlib.import_module(f"tests.vendor.{sys.argv[1]}")
json.dump(getattr(vendor, task["do"])(task), sys.stdout)
