"""What stands between a client and its server for UDP alone, and sees the outer headers."""
import select
import socket

from harness import Thread


class UdpProxy(Thread):
    """For one client. tos has (direction, first byte, octet of the IP header) of all that went through."""

    def __init__(self, target):
        self.target, self.near, self.tos = target, None, []
        v6 = ':' in target[0]
        self.far, sock = (socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        for one in sock, self.far:
            one.bind((target[0], 0))
            one.setsockopt(*(socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS) if v6 else (socket.IPPROTO_IP, socket.IP_RECVTOS), 1)
        super().__init__(sock)

    def step(self):
        ready, _, _ = select.select([self.sock, self.far], [], [], 0.03)
        for one in ready:
            data, control, _, source = one.recvmsg(65536, 64)
            octet = next((value[0] for level, kind, value in control
                          if (level, kind) in ((socket.IPPROTO_IP, socket.IP_TOS),
                                               (socket.IPPROTO_IPV6, socket.IPV6_TCLASS))), None)
            up = one is self.sock
            self.tos.append(('up' if up else 'down', len(data), octet))
            if up:
                self.near = source
                self.far.sendto(data, self.target)
            elif self.near:
                self.sock.sendto(data, self.near)

    def close(self):
        super().close()
        self.far.close()
