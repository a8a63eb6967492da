"""What the host imports before its first block: the start takes mostly that."""

import subprocess
import sys

RUN = "import sys, sigrack.cli.run, sigrack.session; print(*sys.modules)"
NOT_NEEDED = {
    *("cupy", "scipy", "matplotlib", "sofar", "tomlkit", "tqdm", "supervisor"),
    *("http.client", "xmlrpc.client", "numpy.random", "statistics"),
    *("sigrack.rendering", "sigrack.soak", "sigrack.scanning", "sigrack.supervision", "sigrack.oversight"),
    *("sigrack_engine.cuda", "sigrack_engine.design"),
}
"""Of other commands, or of rare racks."""


def test_a_start_imports_nothing_for_others() -> None:
    """`sigrack run` comes without what only other commands, racks with a GPU, or the first run of the demo need."""
    done = subprocess.run([sys.executable, "-c", RUN], capture_output=True, text=True, check=True)
    imported = set(done.stdout.split())

    assert "sigrack.realtime" in imported  # it is the start that is looked at
    assert not NOT_NEEDED & imported


def test_openblas_has_no_threads_in_a_host() -> None:
    """They would spin on the cores that the engine needs. Who has set the variable keeps what it says."""
    probe = """if True:
        import os, sys, tempfile
        from pathlib import Path
        from sigrack.cli import main
        os.environ.pop("OPENBLAS_NUM_THREADS", None)
        assert "numpy" not in sys.modules
        main(["run", str(Path(tempfile.gettempdir(), "there-is-none.toml"))])
        assert "numpy" in sys.modules
        print(os.environ["OPENBLAS_NUM_THREADS"], len(os.listdir("/proc/self/task")))
    """

    assert ["1", "1"] == subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True).stdout.split()
