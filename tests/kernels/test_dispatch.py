import pytest
from grnlab_kernels import resolve_backend
from grnlab_kernels.dispatch import BACKENDS, why_not_triton


@pytest.fixture(autouse=True)
def no_variable(monkeypatch):
    monkeypatch.delenv("GRNLAB_KERNELS", raising=False)


def test_auto_and_torch_run_in_torch():
    assert resolve_backend() == resolve_backend("auto") == resolve_backend("torch") == "torch"


def test_triton_by_name_raises_with_the_reason():
    with pytest.raises(RuntimeError, match="triton") as error:
        resolve_backend("triton")
    assert why_not_triton() in str(error.value)
    assert 'backend="torch"' in str(error.value)


@pytest.mark.parametrize("name", ["cuda", "", "Torch"])
def test_unknown_name(name):
    with pytest.raises(ValueError, match="unknown") as error:
        resolve_backend(name)
    assert all(backend in str(error.value) for backend in BACKENDS)


def test_variable_changes_auto_only(monkeypatch):
    monkeypatch.setenv("GRNLAB_KERNELS", "triton")
    with pytest.raises(RuntimeError, match="triton"):
        resolve_backend("auto")
    assert resolve_backend("torch") == "torch"
    monkeypatch.setenv("GRNLAB_KERNELS", "torch")
    assert resolve_backend("auto") == "torch"
    with pytest.raises(RuntimeError, match="triton"):
        resolve_backend("triton")


def test_unknown_variable(monkeypatch):
    monkeypatch.setenv("GRNLAB_KERNELS", "fastest")
    with pytest.raises(ValueError, match="'fastest' is unknown"):
        resolve_backend()
    assert resolve_backend("torch") == "torch"


def test_triton_runs_once_it_can(monkeypatch):
    monkeypatch.setattr("grnlab_kernels.dispatch.why_not_triton", lambda device=None: None)
    assert resolve_backend("triton") == "triton"
    assert resolve_backend("auto", "cuda") == "triton"
    assert resolve_backend("auto", "cpu") == "torch"


def test_auto_falls_back_once_with_a_word(monkeypatch, caplog):
    monkeypatch.setattr("grnlab_kernels.dispatch.why_not_triton", lambda device=None: "a reason of its own")
    assert [resolve_backend("auto", "cuda") for _ in range(3)] == ["torch"] * 3
    assert caplog.text.count("a reason of its own") == 1


def test_the_interpreter_makes_triton_run_anywhere(monkeypatch):
    pytest.importorskip("triton")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert why_not_triton("cpu") is None
    assert resolve_backend("triton", "cpu") == "triton"
    assert resolve_backend("auto", "cpu") == "torch"
