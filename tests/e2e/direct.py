"""Ordinary SOCKS5 programs at the server's port, without our client: in the clear, inside TLS, or upgraded to it."""
import socket
import ssl
import urllib.parse

from harness import ASSOCIATE, parse_address, read_reply, receive, socks_address


def credentials(invite):
    """(user, token) of an invite."""
    parts = urllib.parse.urlsplit(invite)
    return parts.username, parts.password


def login(user, password):
    """The RFC 1929 message."""
    return b'\1' + bytes([len(user)]) + user.encode() + bytes([len(password)]) + password.encode()


def trust(folder, certificate=None):
    """A TLS context that trusts the server's own certificate, for its name; and shows one of its own."""
    context = ssl.create_default_context(cafile=str(folder / 'cert.pem'))
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if certificate:
        context.load_cert_chain(*map(str, certificate))
    return context


def dial(port, host='127.0.0.1', source=None, timeout=10):
    return socket.create_connection((host, port), timeout, source_address=(source, 0) if source else None)


def dial_tls(folder, port, host='127.0.0.1', source=None, name='127.0.0.1'):
    """A TLS connection without ALPN, as a program that knows nothing of sealed records makes it."""
    return trust(folder).wrap_socket(dial(port, host, source), server_hostname=name)


def ask(sock, command, host, port):
    """A request after the login: (code, address)."""
    sock.sendall(bytes([5, command, 0]) + socks_address(host, port))
    return read_reply(sock)


def log_in(sock, invite):
    sock.sendall(b'\5\1\2' + login(*credentials(invite)))
    assert receive(sock, 4) == b'\5\2\1\0'


class PlainUdp:
    """A plain RFC 1928 association at the server: its TCP connection, and a UDP socket at the relay it was told."""

    def __init__(self, tcp, named=True, claimed=None, port=None):
        self.tcp = tcp
        local = tcp.getsockname()[0]
        self.udp = socket.socket(tcp.family, socket.SOCK_DGRAM)
        self.udp.settimeout(5)
        self.udp.bind((local, 0))
        self.address = self.udp.getsockname()[:2]
        claimed = claimed or ('::' if ':' in local else '0.0.0.0')
        port = self.address[1] if named and port is None else port or 0
        self.code, self.relay = ask(tcp, ASSOCIATE, claimed, port)

    def send(self, data, target, frag=0):
        self.udp.sendto(b'\0\0' + bytes([frag]) + socks_address(*target) + data, self.relay)

    def receive(self):
        """(payload, source)"""
        packet, relay = self.udp.recvfrom(65536)
        assert relay[:2] == self.relay and packet[:3] == b'\0\0\0'
        source, data = parse_address(packet[3:])
        return data, source

    def ask(self, data, target):
        self.send(data, target)
        return self.receive()

    def close(self):
        self.udp.close()
        self.tcp.close()
