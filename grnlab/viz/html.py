"""HTML that needs nothing from outside: templates, data inside scripts, and a policy that lets nothing else run."""

import base64
import hashlib
import json
from importlib.resources import files
from typing import Any

from grnlab._optional import require
from grnlab._version import __version__


def asset(name: str) -> str:
    """Text of a file that ships with the page."""
    return (files("grnlab.viz") / "assets" / name).read_text("utf-8")


def fill_template(name: str, **values: Any) -> str:
    """Fill a template; everything is escaped that is not `trusted`."""
    jinja2 = require("jinja2", install="jinja2", purpose="to fill the page")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    text: str = environment.from_string(asset(name)).render(version=__version__, **values)
    return text


def trusted(text: str) -> Any:
    """Mark text as HTML, script or style of our own, to be left as it is."""
    return require("markupsafe", install="markupsafe", purpose="to fill the page").Markup(text)


def safe_json(value: Any) -> str:
    r"""JSON that is safe inside a script element: no character is left that HTML or old JavaScript reads.

    Examples
    --------
    >>> safe_json("</script>")
    '"\\u003c/script\\u003e"'
    """
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def script_policy(*scripts: str) -> str:
    """Content security policy: exactly these scripts run, and nothing is ever fetched."""
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{value}'" for value in hashes)
    closed = "base-uri 'none'; form-action 'none'"
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; {closed}"
