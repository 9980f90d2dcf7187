"""A server that goes out of service: clients with another one go there first and lose nothing that is new; others stay."""
import subprocess

import pytest

from harness import MARKER, SEALGRAM, SocksUdp, run, wait_for
from attacker import Refused, Target


def order(program, *words):
    return subprocess.run([SEALGRAM, *words, '--socket', str(program.control)], capture_output=True, text=True, timeout=20, check=False)


def test_a_client_goes_to_the_next_server_of_its_list(lab, echo):
    first, second = (lab.init()[::2] for _ in range(2))
    servers = [lab.server(folder) for folder, _ in (first, second)]
    client = lab.client(f'{first[1]}\n{second[1]}')
    app = lab.open(SocksUdp(client.socks))
    assert app.ask(MARKER, echo.address) == (MARKER, echo.address)
    assert [server.status()['sessions'] for server in servers] == [1, 0]
    done = order(servers[0], 'drain', '--seconds', '20')
    assert (done.returncode, done.stdout) == (0, 'draining: 1 sessions, at most 20 s\n')
    wait_for(lambda: servers[0].process.poll() == 0, 10, 'the end of the drained server')
    assert app.ask(b'there', echo.address, tries=3) == (b'there', echo.address)
    assert servers[1].status()['sessions'] == 1 and client.status()['sessions_opened'] == 2
    assert 'the server goes out of service within 20 s: going to the next of the list\n' in client.err
    assert 'connection to the server lost' not in client.err
    assert 'draining: 1 sessions are told to leave within 20 s\n' in servers[0].err
    assert 'drained: ending\n' in servers[0].err


def test_a_client_without_another_stays_until_the_end(lab, echo):
    server, client = lab.pair()
    app = lab.open(SocksUdp(client.socks))
    assert app.ask(MARKER, echo.address) == (MARKER, echo.address)
    assert order(server, 'drain', '--seconds', '2').returncode == 0
    wait_for(lambda: 'there is no other in the list\n' in client.err, 3, 'the word')
    assert app.ask(b'still', echo.address) == (b'still', echo.address)
    wait_for(lambda: server.process.poll() == 0, 5, 'the end')
    wait_for(lambda: 'session with the server ended: the peer is shutting down' in client.err, 3, 'the end at the client')


def test_nothing_begins_while_it_drains(lab, echo):
    target = Target(lab).start()
    channel = target.channel().validate()
    assert order(target.server, 'drain', '--seconds', '30').returncode == 0
    for handle in (None, bytes(16)):
        with pytest.raises(Refused) as refused:
            target.channel(handle=handle)
        assert refused.value.args == (1, 'draining')
    renewed = target.channel(handle=channel.handle, udp=channel.udp)  # what there is may be renewed
    assert renewed.resumed == 1
    assert order(target.server, 'drain', '--seconds', '0').returncode == 0
    wait_for(lambda: target.server.process.poll() == 0, 5, 'the end')


def test_one_that_nobody_uses_ends_at_once(lab):
    folder, _, _ = lab.init()
    server = lab.server(folder)
    assert order(server, 'drain').stdout == 'draining: 0 sessions, at most 60 s\n'
    wait_for(lambda: server.process.poll() == 0, 5, 'the end')


@pytest.mark.parametrize('text', ['-1', '86401', 'soon', '1s'])
def test_what_is_no_time(lab, text):
    folder, _, _ = lab.init()
    server = lab.server(folder)
    done = order(server, 'drain', '--seconds', text)
    assert (done.returncode, done.stderr) == (1, f"sealgram: '{text}' is no number of seconds from 0 to 86400\n")
    assert server.process.poll() is None


def test_it_takes_no_argument():
    assert run('drain', 'now').returncode == 2
