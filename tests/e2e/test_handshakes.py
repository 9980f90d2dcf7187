"""What TLS handshakes may cost the server, and who begins how many."""
import os
import socket

import pytest

from attacker import Target, client_hello
from harness import receive


@pytest.fixture
def target(lab):
    return Target(lab)


def cpu_seconds(program):
    with open(f'/proc/{program.process.pid}/stat', encoding='ascii') as file:
        fields = file.read().rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def answer_to(port, hello):
    """(content type, body) of the first TLS record that comes back."""
    with socket.create_connection(('127.0.0.1', port), 10) as sock:
        sock.sendall(hello)
        head = receive(sock, 5)
        return head[0], receive(sock, int.from_bytes(head[3:], 'big'))


@pytest.mark.parametrize('group', ['ffdhe8192', 'P-521', 'P-384', 'x448'])
def test_groups_that_cost_much_are_refused_at_once(target, echo, group):
    """With handshake_failure, and without computing: one key share of ffdhe8192 took 100 ms and more."""
    target.start()
    hello = client_hello(group)
    before = cpu_seconds(target.server)
    for _ in range(40):
        assert answer_to(target.port, hello) == (21, b'\2\x28')
    assert cpu_seconds(target.server) - before < 1
    target.still_serves(echo)


@pytest.mark.parametrize('group', ['x25519', 'P-256'])
def test_groups_that_are_cheap_are_served(target, group):
    target.start()
    kind, body = answer_to(target.port, client_hello(group))
    assert kind == 22 and body[0] == 2  # ServerHello


def test_an_expensive_share_beside_a_cheap_one_is_not_looked_at(target, echo):
    target.start()
    hello = client_hello('ffdhe8192', 'x25519')
    before = cpu_seconds(target.server)
    for _ in range(40):
        kind, body = answer_to(target.port, hello)
        assert kind == 22 and body[0] == 2
    assert cpu_seconds(target.server) - before < 1
    target.still_serves(echo)
