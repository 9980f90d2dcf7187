"""A DNS server of a test, in a network namespace of its own, and programs that ask it."""
import ctypes
import shutil
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
    A DNS server at 127.0.0.9, or another address. A name's A records are its next list, the last one stays; its AAAA records
    are always the same; it may take long, or be silent, or mute: for questions of that kind, A or AAAA. A name is known by its first label, or else as `default` says.
    asked: the whole name of each query for A records.
    """

    def __init__(self, silent=False, seconds=0, host='127.0.0.9', default=(), aaaa=None, mute=None, **answers):
        self.mute = {'A': b'\0\1', 'AAAA': b'\0\x1c'}.get(mute)
        self.aaaa = {name.encode(): list(addresses) for name, addresses in (aaaa or {}).items()}
        self.silent, self.seconds, self.default, self.asked = silent, seconds, list(default), []
        self.answers = {name.encode(): lists for name, lists in answers.items()}
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((host, 53))
        super().__init__(sock)

    def step(self):
        query, asker = self.sock.recvfrom(512)
        end = query.index(0, 12) + 5
        label, kind = query[13:13 + query[12]], query[end - 4:end - 2]
        if kind == b'\0\1':
            self.asked.append(name_of(query))
        if self.silent or kind == self.mute:
            return
        time.sleep(self.seconds)
        lists = self.answers.get(label, [self.default])
        addresses = []
        if kind == b'\0\1':
            addresses = lists.pop(0) if len(lists) > 1 else lists[0]
        if kind == b'\0\x1c':
            addresses = self.aaaa.get(label, [])
        head = query[:2] + b'\x81\x80' + struct.pack('!HHHH', 1, len(addresses), 0, 0)
        numbers = [socket.inet_pton(socket.AF_INET6 if ':' in address else socket.AF_INET, address) for address in addresses]
        records = [b'\xc0\x0c' + kind + b'\0\1\0\0\0\0' + struct.pack('!H', len(number)) + number for number in numbers]
        self.sock.sendto(head + query[12:end] + b''.join(records), asker)


def name_of(query):
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1:at + 1 + query[at]].decode())
        at += 1 + query[at]
    return '.'.join(labels)


class Etc:
    """A folder that programs have as /etc, and another that they have as /run/names. The test changes what is in them."""

    def __init__(self, lab, program):
        self.folder, self.run, self.unshare = lab.folder / 'etc', lab.folder / 'names', program('unshare')
        for folder in self.folder, self.run:
            folder.mkdir()
        for name in 'passwd', 'group', 'ld.so.cache':
            shutil.copy(f'/etc/{name}', self.folder)
        self.write('hosts', '127.0.0.1 localhost\n')
        self.write('nsswitch.conf', 'hosts: files dns\n')
        self.write('resolv.conf', 'nameserver 127.0.0.9\n')

    def write(self, name, text):
        """Makes a file, or writes over it."""
        (self.folder / name).write_text(text)
        (self.folder / name).chmod(0o644)

    def replace(self, name, text):
        """Another file takes the place."""
        self.write(name + '.new', text)
        (self.folder / (name + '.new')).rename(self.folder / name)

    def link(self, name, folder, text):
        """A link to a file of that name elsewhere takes the place."""
        (folder / name).write_text(text)
        (folder / name).chmod(0o644)
        (self.folder / (name + '.new')).symlink_to(f'/run/names/{name}' if folder == self.run else folder / name)
        (self.folder / (name + '.new')).rename(self.folder / name)

    def prefix(self, *then):
        """What a program is to be started with."""
        script = f'mkdir -p /run/names && mount --bind {self.run} /run/names && mount --bind {self.folder} /etc && exec "$@"'
        return [self.unshare, '--mount', 'sh', '-c', script, 'sh', *then]


def asking_dns(lab, program):
    """What makes a program ask Dns and nobody else."""
    conf = lab.folder / 'resolv.conf'
    conf.write_text('nameserver 127.0.0.9\n')
    return [program('unshare'), '--mount', 'sh', '-c', f'mount --bind {conf} /etc/resolv.conf && exec "$@"', 'sh']
