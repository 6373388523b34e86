"""Run a task from standard input (JSON) with a vendor's SDK; the argument is the name of the module in this package."""

import importlib
import json
import sys

task = json.load(sys.stdin)
vendor = importlib.import_module(f"tests.vendor.{sys.argv[1]}")
json.dump(getattr(vendor, task["do"])(task), sys.stdout)
