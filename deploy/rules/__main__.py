"""Write the rule files and their copies: `python -m deploy.rules [RUNBOOKS]`, or `make rules`."""

import sys

from deploy import copies
from deploy.rules.files import files

for path, text in files(*sys.argv[1:]).items():
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
copies.write()
