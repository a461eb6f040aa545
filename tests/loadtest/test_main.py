import signal
import subprocess
import sys
from pathlib import Path

from store.embedded import answers

ROOT = Path(__file__).parents[2]
WITH_A_STORE = """
import sys, time
from pathlib import Path
import loadtest.__main__ as command
from store.embedded import embedded_store

@command.app.command()
def hold(folder: Path):
    with embedded_store(folder) as url:
        print(url, flush=True)
        time.sleep(60)

sys.argv[1:1] = ["hold"]
command.main()
"""


def test_a_command_that_is_terminated_leaves_no_server(tmp_path):
    """As `timeout` and CI do it; a measurement that goes on alone would be in the next one's figures."""
    command = [sys.executable, "-c", WITH_A_STORE, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        url = process.stdout.readline().strip()
        assert answers(url)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 128 + signal.SIGTERM
    assert not answers(url)
