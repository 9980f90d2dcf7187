"""The limits of a key, lowered in the test build: fresh sender ids, then the stream; nothing is lost, nothing exits."""
import os
import socket

import pytest

from harness import Lab, UdpEcho, sum_ledger

SEALGRAM_LIMITS = os.environ.get('SEALGRAM_LIMITS')


@pytest.fixture
def limited(monkeypatch):
    """A lab whose programs are of the test build, with 100 records for each of 3 sender ids."""
    if not SEALGRAM_LIMITS:
        pytest.skip('SEALGRAM_LIMITS names no test build')
    monkeypatch.setattr('harness.SEALGRAM', SEALGRAM_LIMITS)
    monkeypatch.setenv('SEALGRAM_TEST_LIMITS', '100 100000 50 3')
    lab = Lab()
    yield lab
    lab.close()


def test_a_used_up_key_hands_over_to_the_stream(limited):
    echo = limited.open(UdpEcho())
    # never renewed: the keys are used to their end
    server, client = limited.pair('--forward', f'udp:127.0.0.1:0=127.0.0.1:{echo.address[1]}',
                                  config='timeouts:\n  renew_seconds: 0')
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        for number in range(500):
            sock.sendto(b'%d' % number, client.forwards[0])
            assert sock.recv(100) == b'%d' % number
    status = server.status()
    assert status['sessions'] == 1 and status['sessions_opened'] == 1
    for ledger in (status['up'], status['down'], client.status()['up'], client.status()['down']):
        assert ledger['received'] == sum_ledger(ledger)
        assert sum(ledger['drops'].values()) == 0
    assert status['up']['forwarded'] == 500
    # with 100 records for each of 3 ids the client could seal 300: the others came inside TLS
    assert status['up']['received'] - status['up']['session'] == 500
    assert status['up']['streamed'] >= 200 and status['down']['streamed'] >= 200
