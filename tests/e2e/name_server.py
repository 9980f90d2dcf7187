"""A DNS server of a test, in a network namespace of its own, and programs that ask it."""
import ctypes
import socket
import struct
import subprocess
import threading
import time

from harness import Thread


def in_network_of_its_own(body):
    """Runs body in a thread with a fresh network namespace, loopback up."""
    errors = []

    def work():
        try:
            assert ctypes.CDLL(None, use_errno=True).unshare(0x40000000) == 0, 'CLONE_NEWNET'
            subprocess.run(['ip', 'link', 'set', 'lo', 'up'], check=True)
            body()
        except BaseException as error:  # pylint: disable=broad-except
            errors.append(error)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]


class Dns(Thread):
    """
    A DNS server at 127.0.0.9. A name's A records are its next list, the last one stays; its AAAA records are always the
    same; it may take long, or be silent.
    """

    def __init__(self, silent=False, seconds=0, aaaa=None, **answers):
        self.aaaa = {name.encode(): list(addresses) for name, addresses in (aaaa or {}).items()}
        self.silent, self.seconds = silent, seconds
        self.answers = {name.encode(): lists for name, lists in answers.items()}
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(('127.0.0.9', 53))
        super().__init__(sock)

    def step(self):
        query, asker = self.sock.recvfrom(512)
        if self.silent:
            return
        time.sleep(self.seconds)
        end = query.index(0, 12) + 5
        label, kind = query[13:13 + query[12]], query[end - 4:end - 2]
        lists = self.answers.get(label, [[]])
        addresses = []
        if kind == b'\0\1':
            addresses = lists.pop(0) if len(lists) > 1 else lists[0]
        if kind == b'\0\x1c':
            addresses = self.aaaa.get(label, [])
        head = query[:2] + b'\x81\x80' + struct.pack('!HHHH', 1, len(addresses), 0, 0)
        numbers = [socket.inet_pton(socket.AF_INET6 if ':' in address else socket.AF_INET, address) for address in addresses]
        records = [b'\xc0\x0c' + kind + b'\0\1\0\0\0\0' + struct.pack('!H', len(number)) + number for number in numbers]
        self.sock.sendto(head + query[12:end] + b''.join(records), asker)


def asking_dns(lab, program):
    """What makes a program ask Dns and nobody else."""
    conf = lab.folder / 'resolv.conf'
    conf.write_text('nameserver 127.0.0.9\n')
    return [program('unshare'), '--mount', 'sh', '-c', f'mount --bind {conf} /etc/resolv.conf && exec "$@"', 'sh']
