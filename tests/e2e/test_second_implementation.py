"""The server against the second implementation of docs/protocol.md: what the document says is what the server does."""
import pytest

from sealgram_py import messages, record
from sealgram_py.client import Client

pytestmark = pytest.mark.parametrize('suite', record.SUITES, ids=['xaes-256-gcm', 'xchacha20-poly1305'])


@pytest.fixture
def served(lab):
    """(server, invite)"""
    folder, _, invite = lab.init()
    return lab.server(folder), invite


@pytest.fixture
def client(lab, served, suite):
    client = lab.open(Client(served[1], [suite]))
    assert client.suite == suite
    return client


def test_a_datagram_over_the_stream_before_udp(client, echo):
    number = client.associate()
    assert client.send(number, b'first', echo.address) == 'stream'
    answer = client.receive()
    assert (answer.association, answer.data, answer.source, answer.over) == (number, b'first', echo.address, 'stream')


def test_path_and_sealed_echo(client, echo, served):
    client.validate()
    number = client.associate()
    assert client.send(number, b'sealed', echo.address) == 'udp'
    answer = client.receive()
    assert (answer.data, answer.source, answer.over) == (b'sealed', echo.address, 'udp')
    client.wait(lambda: client.plpmtu == client.kernel_size)
    assert served[0].status()['sessions_on_udp'] == 1
