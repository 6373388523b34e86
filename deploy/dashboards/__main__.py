"""Write the dashboards and their copies: `python -m deploy.dashboards`, or `make dashboards`."""

from deploy import copies
from deploy.dashboards.files import files

for path, text in files().items():
    path.write_text(text, encoding="utf-8")
copies.write()
