"""The end of credentials, whatever the clock of the server did before: it may have been ahead, or behind."""
import glob
import time

import pytest

from direct import PlainUdp, dial_tls, log_in
from harness import CONNECT, SocksUdp, socks_request, wait_for

FAKETIME = glob.glob('/usr/lib/*/faketime/libfaketimeMT.so.1')
DAY = 86400

pytestmark = [pytest.mark.no_sanitize, pytest.mark.skipif(not FAKETIME, reason='libfaketime is not installed')]


class Clock:
    """The wall clock of one program; how long something takes is as it is, unless `wall_only` is false."""

    def __init__(self, lab, wall_only=True):
        self.path = lab.folder / 'clock'
        self.env = {'LD_PRELOAD': FAKETIME[0], 'FAKETIME_TIMESTAMP_FILE': str(self.path), 'FAKETIME_NO_CACHE': '1',
                    **({'FAKETIME_DONT_FAKE_MONOTONIC': '1'} if wall_only else {})}
        self.set(0)

    def set(self, seconds):
        """So many seconds ahead of the time that it is, from now on."""
        fresh = self.path.with_suffix('.new')
        fresh.write_text(f'{seconds:+d}\n')
        fresh.rename(self.path)


@pytest.fixture
def clock(lab):
    return Clock(lab)


@pytest.fixture
def start(lab, clock):
    """Starts a server with the clock; an invite, of a user whose time is over in a day, is start.invite."""
    folder, port, _ = lab.init()
    lab.edit_config(folder, 'sandbox: off')  # which would not let the clock be read

    def run_server():
        program = lab.start('server', 'server', '-c', folder / 'server.yaml', '-v', env=clock.env)
        program.ready()
        return program
    run_server.folder, run_server.port, run_server.invite = folder, port, lab.invite(folder, 'bob', '--expires', '1d')
    return run_server


def open_all(lab, start, echo, tcp_echo):
    """What the user may have: a session with an association, a relay, and a plain association."""
    client = lab.client(start.invite)
    assert lab.open(SocksUdp(client.socks)).ask(b'x', echo.address)[0] == b'x'
    relay, code, _ = socks_request(client.socks, CONNECT, *tcp_echo.address)
    lab.open(relay)
    assert code == 0
    tcp = lab.open(dial_tls(start.folder, start.port))
    log_in(tcp, start.invite)
    assert PlainUdp(tcp).ask(b'y', echo.address)[0] == b'y'
    return client


def expect_end(server, client):
    """Of all that, and of no other."""
    def counts():
        status = server.status()
        return [status['sessions'], status['associations'], status['plain_associations'], status['tcp']['relays']]
    wait_for(lambda: counts() == [0, 0, 0, 0], 10, 'the end')
    client.kill()


def expect_refused(lab, invite):
    client = lab.client(invite, ready=False)
    wait_for(lambda: client.process.poll() is not None, 20, 'the end of the client')
    assert client.process.returncode == 1 and not client.out
    client.process.returncode = -9  # its end was expected


def test_a_clock_that_is_set_ahead_ends_what_is_over(lab, clock, start, echo, tcp_echo):
    server = start()
    client = open_all(lab, start, echo, tcp_echo)
    clock.set(2 * DAY)
    expect_end(server, client)
    expect_refused(lab, start.invite)


def test_a_clock_that_was_ahead_at_the_start(lab, clock, start, echo, tcp_echo):
    """What was over by a wrong clock is not, by the right one; and in the end it is over all the same."""
    clock.set(2 * DAY)
    server = start()
    expect_refused(lab, start.invite)
    clock.set(0)
    client = open_all(lab, start, echo, tcp_echo)
    clock.set(2 * DAY)
    expect_end(server, client)


def test_a_clock_that_was_ahead_for_a_while(lab, clock, start, echo, tcp_echo):
    server = start()
    for _ in range(2):
        client = open_all(lab, start, echo, tcp_echo)
        clock.set(2 * DAY)
        expect_end(server, client)
        clock.set(-3 * DAY)


def test_a_clock_that_was_behind(lab, clock, start, echo, tcp_echo):
    server = start()
    clock.set(-400 * DAY)
    client = open_all(lab, start, echo, tcp_echo)
    app = lab.open(SocksUdp(client.socks))
    for days in (-800, 0, -1):
        clock.set(days * DAY)
        end = time.monotonic() + 1  # the server looks at its clock twice meanwhile
        while time.monotonic() < end:
            assert app.ask(b'x', echo.address)[0] == b'x'
    assert server.status()['sessions_opened'] == 1
    clock.set(2 * DAY)
    expect_end(server, client)


def test_no_connection_waits_for_a_clock_that_went_back(lab, tcp_echo):
    """All clocks of the server: rates of handshakes and idle times that were counted an hour ahead hold up nobody."""
    clock = Clock(lab, wall_only=False)
    folder, _, invite = lab.init()
    lab.edit_config(folder, 'sandbox: off')
    lab.start('server', 'server', '-c', folder / 'server.yaml', env=clock.env).ready()
    client = lab.client(invite)

    def passes():
        relay, code, _ = socks_request(client.socks, CONNECT, *tcp_echo.address)
        with relay:
            relay.sendall(b'x' if code == 0 else b'')
            return code == 0 and relay.recv(1) == b'x'
    for ahead in (0, 3000, 0):
        clock.set(ahead)  # what was under way when it jumps may end
        wait_for(passes, 8, f'a connection with the clock {ahead} s ahead')
