"""From nothing to a first sealed datagram between two machines, by the commands that each command prints."""
import os
import re
import shlex
import subprocess

import pytest

from harness import MARKER, SEALGRAM, SocksUdp, UdpEcho, wait_for
from network import CLIENT, HOSTS, SERVER

pytestmark = pytest.mark.netns


def printed_command(text, name):
    """The words after `sealgram` of the one command of that name which a text tells to type."""
    found = re.findall(rf'sealgram {name} [^\n;]*', text)
    assert len(found) == 1, text
    return shlex.split(found[0])[1:]


def test_each_command_prints_the_next(lab, network):
    folder = lab.folder / 'etc'
    init = subprocess.run([*network.prefix(SERVER), SEALGRAM, 'init', str(folder), '--user', 'alice', '--allow', '127.0.0.0/8'],
                          capture_output=True, text=True, timeout=30, check=True)
    server = lab.start('server', *printed_command(init.stderr, 'server'), prefix=network.prefix(SERVER))
    server.ready()

    on_client = lab.folder / 'home'  # what the operator does by hand: bring the line over, for its owner alone
    on_client.mkdir()
    invite = on_client / 'alice.invite'
    invite.write_text(init.stdout)
    invite.chmod(0o600)
    words = printed_command(init.stderr, 'client')
    assert words == ['client', '@alice.invite'] and f'@{HOSTS[SERVER]}:1443/' in init.stdout
    before = os.getcwd()
    os.chdir(on_client)
    try:
        client = lab.start('client', *words, prefix=network.prefix(CLIENT))
    finally:
        os.chdir(before)
    assert client.ready()['line'] == 'ready socks=127.0.0.1:1080 path=udp'

    echo = lab.open(network.call(SERVER, UdpEcho))
    app = lab.open(network.call(CLIENT, SocksUdp, ('127.0.0.1', 1080)))
    assert app.ask(MARKER, echo.address) == (MARKER, echo.address)
    wait_for(lambda: server.status()['sessions_on_udp'] == 1, 5, 'UDP')
    up = server.status()['up']
    assert up['forwarded'] == 1 and up['streamed'] == 0
