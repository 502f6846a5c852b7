"""Where bars are shown."""

import io
import sys
from types import SimpleNamespace

import pytest

from grnlab._progress import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(("notebook", "terminal", "shown"), [(0, 0, False), (0, 1, True), (1, 0, True)])
def test_bars_show_on_a_terminal_and_in_a_notebook_only(monkeypatch, notebook, terminal, shown):
    shell = SimpleNamespace(config={"IPKernelApp": {}} if notebook else {})
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    stream = Terminal() if terminal else io.StringIO()
    assert list(progress(range(3), desc="cells", file=stream)) == [0, 1, 2]
    assert ("cells" in stream.getvalue()) is shown
