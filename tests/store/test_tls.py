"""TLS by URL, with Debian's redis-server: the embedded one has none."""

import shutil
import subprocess

import pytest
from redis.exceptions import RedisError

from service.behaviours import reason
from store.append import Appender, Arrived
from store.behaviour_tree import BehaviourTree
from store.connection import connect
from tests.service.serving import until
from tests.store.servers import NO_REDIS, REDIS, Server, free_port

OPENSSL = shutil.which("openssl")


def certificate(folder, name, issuer=None):
    """A key and a certificate for 127.0.0.1, signed by the issuer or by itself."""
    by = ["-CA", f"{issuer}.crt", "-CAkey", f"{issuer}.key", "-addext", "subjectAltName=IP:127.0.0.1"] if issuer else []
    subprocess.run(
        [OPENSSL, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}", *by,
         "-keyout", f"{name}.key", "-out", f"{name}.crt"],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    """Folder of the certificates, and the port of a server that wants TLS from clients, on both sides."""
    if REDIS is None:
        pytest.skip(NO_REDIS)
    if OPENSSL is None:
        pytest.skip("openssl is not installed: no certificates")
    folder, port = tmp_path_factory.mktemp("tls"), free_port()
    certificate(folder, "authority")
    certificate(folder, "server", "authority")
    certificate(folder, "client", "authority")
    certificate(folder, "stranger")
    server = Server(
        REDIS, folder, tls_port=port, tls_cert_file=folder / "server.crt", tls_key_file=folder / "server.key",
        tls_ca_cert_file=folder / "authority.crt", tls_auth_clients="yes", requirepass="secret", port=0,
    )  # fmt: skip
    try:
        server.start(url(folder, port))
    except AssertionError as error:
        if "tls" in str(error) and "Bad directive" in str(error):
            pytest.skip("redis-server was built without TLS")
        raise
    yield folder, port
    server.kill()


def url(folder, port, trusted="authority", shown="client", scheme="rediss", host="127.0.0.1"):
    own = f"&ssl_certfile={folder}/{shown}.crt&ssl_keyfile={folder}/{shown}.key" if shown else ""
    return f"{scheme}://:secret@{host}:{port}/0?ssl_ca_certs={folder}/{trusted}.crt{own}"


def test_events_go_in_and_out(tls, data_name):
    client = connect(url(*tls), timeout_s=5)
    assert Appender(client, data_name, 0).append([Arrived("u1", 2, 2, 1, b"")]) == [True]
    assert len(BehaviourTree(client, data_name, 0).read_life("u1").behaviours) == 1
    client.close()


@pytest.mark.parametrize(
    ("case", "why"),
    [
        ({"trusted": "stranger"}, "certificate verify failed"),
        ({"host": "localhost"}, "certificate is not valid for 'localhost'"),
        ({"shown": "stranger"}, None),
        ({"shown": None}, None),
        ({"scheme": "redis"}, None),
    ],
    ids=["another authority", "another host", "foreign client", "no client certificate", "no TLS"],
)
def test_without_the_right_certificates_there_is_no_connection(tls, case, why):
    target = url(*tls, **case) if "scheme" not in case else f"redis://:secret@127.0.0.1:{tls[1]}"
    client = connect(target, timeout_s=5)
    with pytest.raises(RedisError, match=why) as caught:
        client.get("a")
    assert reason(caught.value) == "store_down"
    client.close()


def test_a_cluster_speaks_tls_too(tls, tmp_path):
    folder, _ = tls
    port, bus = free_port(), free_port()
    server = Server(
        REDIS, tmp_path, tls_port=port, tls_cert_file=folder / "server.crt", tls_key_file=folder / "server.key",
        tls_ca_cert_file=folder / "authority.crt", requirepass="secret", port=0, cluster_enabled="yes", cluster_port=bus,
        tls_cluster="yes",
    )  # fmt: skip
    server.start(url(folder, port))
    node = connect(url(folder, port))
    node.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    client = connect(url(folder, port, scheme="rediss+cluster"), timeout_s=5)
    until(lambda: "cluster_state:ok" in str(node.execute_command("CLUSTER", "INFO")))
    assert Appender(client, "d", 0).append([Arrived("u1", 2, 2, 1, b"")]) == [True]
    client.close()
    node.close()
    server.kill()
