"""Code points of datagrams on the records around them: those of a set, never ECN, and never from outside to inside."""
import socket

import pytest

from harness import Lab, SocksUdp, Thread, free_port, wait_for
from udp_proxy import UdpProxy

EF, AF41, CS1 = 46, 34, 8
RECORD = 2000  # so long are only records of datagrams here, and no probe


class MarkedEcho(Thread):
    """Sends each datagram back with an octet of its own choice in the header, and remembers the octets that came."""

    def __init__(self, octet):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(('127.0.0.1', 0))
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, octet)
        self.octets = []
        super().__init__(sock)

    def step(self):
        data, control, _, source = self.sock.recvmsg(65536, 64)
        self.octets += [value[0] for level, kind, value in control if (level, kind) == (socket.IPPROTO_IP, socket.IP_TOS)]
        self.sock.sendto(data, source)


class Marked:
    """A client and a server whose UDP goes through a proxy, with these options, and an application."""

    def __init__(self, lab, echo_octet, client=(), server='', host='127.0.0.1'):
        port = free_port(socket.AF_INET6 if ':' in host else socket.AF_INET)
        at = f'[{host}]' if ':' in host else host
        folder, port, invite = lab.init(host=host, listen=[f'{at}:{port}'], port=port)
        self.proxy = lab.open(UdpProxy((host, port)))
        lab.edit_config(folder, f'advertise: "{at}:{self.proxy.address[1]}"\n{server}')
        self.server, self.client = lab.server(folder), None
        self.echo = lab.open(MarkedEcho(echo_octet))
        self.client = lab.client(invite, *client, '--forward', f'udp:127.0.0.1:0=127.0.0.1:{self.echo.address[1]}')
        wait_for(lambda: self.client.status()['record_max'] > RECORD and self.server.status()['sessions_on_udp'] == 1, 5, 'UDP')
        self.app = lab.open(SocksUdp(self.client.socks))

    def octets(self, octet, sock=None):
        """Sends a datagram with this octet in its header: what the records out and back had, and what came back."""
        sock = sock or self.app.udp
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, octet)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
        self.proxy.tos.clear()
        self.echo.octets.clear()
        if sock is self.app.udp:
            self.app.send(bytes(RECORD), self.echo.address)
        else:
            sock.send(bytes(RECORD))
        sock.settimeout(5)
        _, control, _, _ = sock.recvmsg(65536, 64)
        back = [value[0] for level, kind, value in control if (level, kind) == (socket.IPPROTO_IP, socket.IP_TOS)]
        outer = {way: octet for way, size, octet in list(self.proxy.tos) if RECORD < size < RECORD + 100}
        return outer['up'], outer['down'], self.echo.octets[-1], back[0]


def octet(dscp, ecn=0):
    return dscp << 2 | ecn


def test_nothing_is_copied_unless_asked_for(lab):
    marked = Marked(lab, octet(EF))
    assert marked.octets(octet(EF)) == (0, 0, 0, 0)


@pytest.mark.parametrize('host', ['127.0.0.1', '::1'])
def test_code_points_of_the_set_are_copied_outward_only(lab, host):
    """Both ways; others become 0, ECN always is; target and application get 0 whatever the record had."""
    marked = Marked(lab, octet(AF41, ecn=1), client=('--dscp', 'ef,8'), server='dscp: af41\n', host=host)
    for sent, outer in ((octet(EF, ecn=2), octet(EF)), (octet(CS1), octet(CS1)), (octet(AF41), 0), (octet(0, ecn=1), 0)):
        assert marked.octets(sent) == (outer, octet(AF41), 0, 0)
    forward = lab.open(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    forward.connect(marked.client.forwards[0])
    assert marked.octets(octet(EF), forward) == (octet(EF), octet(AF41), 0, 0)


def test_a_burst_with_two_code_points_keeps_each(lab):
    marked = Marked(lab, octet(AF41), client=('--dscp', 'ef,af41'), server='dscp: af41\n')
    socks = [lab.open(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(2)]
    for sock, dscp in zip(socks, (EF, AF41)):
        sock.connect(marked.client.forwards[0])
        sock.settimeout(5)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, octet(dscp))
    marked.proxy.tos.clear()
    for number in range(40):
        socks[number % 2].send(bytes(RECORD + 10 * (number % 2)))
    for number in range(40):
        assert len(socks[number % 2].recv(65536)) == RECORD + 10 * (number % 2)
    up = [(size, value) for way, size, value in marked.proxy.tos if way == 'up' and RECORD < size < RECORD + 100]
    assert len(up) == 40 and {value for _, value in up} == {octet(EF), octet(AF41)}
    assert len({size for size, value in up if value == octet(EF)}) == 1, 'a code point belongs to its datagram'


@pytest.mark.parametrize('text', ['', 'ef,', 'EF', '64', '-1', 'af51', 'af14', 'cs8', 'ef af41', '046'])
def test_what_is_no_code_point(text):
    from harness import run
    lab = Lab()
    try:
        done = run('client', '--dscp', text, '@/nonexistent', folder=lab.folder)
        assert done.returncode == 2
        assert f'--dscp {text}: not a list of code points, as in ef,af41,cs5 or 46,34' in done.stderr
    finally:
        lab.close()
