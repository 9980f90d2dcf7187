"""The metrics: every one documented, equal to the status document, cheap to hold a connection to, and not for everybody."""
import contextlib
import re
import socket
import time
import urllib.error
import urllib.request

import pytest

from harness import ROOT, SocksUdp, free_port, run, socks_request, sum_ledger, wait_for

parser = pytest.importorskip('prometheus_client.parser', reason='python3-prometheus-client is not installed')

READERS_MAX, READER_SECONDS = 8, 5
ROW = re.compile(r'\| `(\w+)` \| (\w+) \| (.*?) \| .+ \|')


class Metrics:
    """A server with metrics, and what it says."""

    def __init__(self, lab, config='', per_user=True):
        self.port = free_port()
        self.folder, self.server_port, self.invite = lab.init()
        lab.edit_config(self.folder, f'metrics: {{listen: "127.0.0.1:{self.port}", per_user: {str(per_user).lower()}}}\n'
                        + config)
        self.server = lab.server(self.folder)

    def text(self):
        with urllib.request.urlopen(f'http://127.0.0.1:{self.port}/metrics', timeout=10) as answer:
            assert answer.headers['Content-Type'] == 'text/plain; version=0.0.4; charset=utf-8'
            return answer.read().decode()

    def families(self):
        return {family.name: family for family in parser.text_string_to_metric_families(self.text())}

    def samples(self):
        """(name, label values in their order): value"""
        return {(sample.name, *sample.labels.values()): sample.value
                for family in self.families().values() for sample in family.samples}

    def quiet(self):
        """The status document, and the metrics of a moment in which it did not change."""
        def look():
            before = {**self.server.status(), 'uptime_seconds': 0}
            time.sleep(0.11)  # what metrics tell may be so old
            samples = self.samples()
            return ({**self.server.status(), 'uptime_seconds': 0} == before) and (before, samples)
        return wait_for(look, 20, 'a quiet moment')

    def ask(self, request, seconds=10):
        """Raw bytes to the port, and all that comes back until the end."""
        with socket.create_connection(('127.0.0.1', self.port), seconds) as sock:
            sock.sendall(request)
            answer = b''
            while data := sock.recv(65536):
                answer += data
            return answer


def use(lab, metrics, echo, tcp_echo):
    """A bit of everything that is counted."""
    client = lab.client(metrics.invite)
    app = lab.open(SocksUdp(client.socks))
    for _ in range(20):
        assert app.ask(b'x' * 50, echo.address)[0] == b'x' * 50
    app.send(b'no', ('10.0.0.1', 9))
    sock, code, _ = socks_request(client.socks, 1, *tcp_echo.address)
    assert code == 0
    lab.open(sock)
    with socket.create_connection(('127.0.0.1', metrics.server_port)) as other, contextlib.suppress(ConnectionResetError):
        other.sendall(b'G')  # neither TLS nor SOCKS5
        assert other.recv(1) == b''
    wait_for(lambda: metrics.server.status()['up']['drops']['policy'] == 1, 5, 'the drop')
    return client


@pytest.fixture
def used(lab, echo, tcp_echo):
    metrics = Metrics(lab, 'workers: 2')
    use(lab, metrics, echo, tcp_echo)
    time.sleep(0.11)  # what is told may be so old
    return metrics


def documented():
    """name: (type, labels)"""
    rows = [ROW.fullmatch(line) for line in (ROOT / 'docs' / 'metrics.md').read_text().splitlines()]
    rows = [row for row in rows if row and row[2] != 'type']
    names = [row[1] for row in rows]
    assert len(names) == len(set(names))
    return {row[1]: (row[2], re.findall(r'`(\w+)`', row[3])) for row in rows}


def test_every_metric_is_documented_and_the_reverse(used):
    text = used.text()
    types = dict(re.findall(r'^# TYPE (\w+) (\w+)$', text, re.M))
    helps = re.findall(r'^# HELP (\w+) \S.*\.$', text, re.M)
    docs = documented()
    assert list(types) == helps and len(docs) >= 40
    assert types == {name: kind for name, (kind, _) in docs.items()}
    for name, labels in re.findall(r'^(\w+)(?:\{(.*)\})? \S+$', text, re.M):
        base = name if name in docs else re.sub(r'_(bucket|sum|count)$', '', name)
        found = [label for label in re.findall(r'(\w+)="', labels) if label != 'le']
        assert found == docs[base][1], name
    with_samples = {re.sub(r'_(bucket|sum|count)$', '', name) if name not in docs else name
                    for name in re.findall(r'^(\w+)[{ ]', text, re.M)}
    assert with_samples == set(docs)


def test_the_metrics_equal_the_status_document(used):
    status, samples = used.quiet()
    for direction in 'up', 'down':
        ledger = status[direction]
        for key, name in [('received', 'received_datagrams_total'), ('received_bytes', 'received_bytes_total'),
                          ('forwarded', 'forwarded_datagrams_total'), ('forwarded_bytes', 'forwarded_bytes_total'),
                          ('session', 'session_messages_total'), ('streamed', 'streamed_datagrams_total'),
                          ('queued', 'queued_datagrams')]:
            assert samples[f'sealgram_{name}', direction] == ledger[key], key
        for reason, count in ledger['drops'].items():
            assert samples['sealgram_dropped_datagrams_total', direction, reason] == count, reason
        assert ledger['received'] == sum_ledger(ledger)
    assert samples['sealgram_dropped_datagrams_total', 'up', 'policy'] == 1
    for key in 'sessions', 'sessions_on_udp', 'sessions_without_stream', 'associations', 'plain_associations', 'users':
        assert samples[f'sealgram_{key}',] == status[key], key
    assert samples['sealgram_sessions',] == samples['sealgram_sessions_opened_total',] == 1
    for key in 'before_request', 'relays':
        assert samples[f'sealgram_tcp_{key}',] == status['tcp'][key], key
    assert samples['sealgram_tcp_relays',] == 1 and samples['sealgram_workers',] == 2
    assert samples['sealgram_tcp_refused_total', 'first_byte'] == status['tcp']['refused_first_byte'] == 1
    assert samples['sealgram_tls_handshakes_total',] == status['tls_handshakes'] == 2
    assert samples['sealgram_build_info', status['version']] == 1
    assert sum(worker['handshakes'] for worker in status['workers']) == 2
    for number, worker in enumerate(status['workers']):
        assert samples['sealgram_worker_sessions', str(number)] == worker['sessions']
        assert samples['sealgram_worker_received_datagrams_total', str(number)] == worker['datagrams_received']
        assert samples['sealgram_worker_tls_handshakes_total', str(number)] == worker['handshakes']


def test_nothing_in_the_status_document_is_missing_in_the_metrics(used):
    source = (ROOT / 'src' / 'server' / 'metrics_text.c').read_text()
    told_by_others = {'role', 'version', 'uptime_seconds', 'up', 'down'}
    status = used.server.status()
    names = (set(status) | set(status['up']) | set(status['workers'][0])) - told_by_others
    names |= {f'look_ups.{name}' for name in status['look_ups']}
    names |= {f'tcp.{name}' for name in status['tcp'] if not name.startswith('refused_')} | {'refused_'}
    assert not [name for name in sorted(names - {'tcp', 'look_ups'}) if f'"{name}"' not in source]


def test_histograms_count_each_thing_once(used):
    families = used.families()
    figures = {(sample.name, *sample.labels.values()): sample.value
               for family in families.values() for sample in family.samples}
    for name, own, count in [('sealgram_tls_handshake_seconds', {}, 2),
                             ('sealgram_batch_datagrams', {'direction': 'up'}, None),
                             ('sealgram_batch_datagrams', {'direction': 'down'}, None)]:
        samples = [sample for sample in families[name].samples if own.items() <= sample.labels.items()]
        buckets = [sample for sample in samples if sample.name.endswith('_bucket')]
        bounds = [float(sample.labels['le']) for sample in buckets]
        values = [sample.value for sample in buckets]
        total = next(sample.value for sample in samples if sample.name.endswith('_count'))
        summed = next(sample.value for sample in samples if sample.name.endswith('_sum'))
        assert bounds[-1] == float('inf') and values == sorted(values) and values[-1] == total > 0
        assert all(high == 2 * low for low, high in zip(bounds[:-2], bounds[1:-1], strict=True))
        if count:
            assert total == count and 0 < summed < 60
            assert bounds[0] == 0.000256 and 16 < bounds[-2] < 17
        else:
            way = own['direction']
            streamed = figures['sealgram_streamed_datagrams_total', way] if way == 'up' else 0
            assert bounds[:-1] == [2 ** i for i in range(12)]
            assert summed == figures['sealgram_received_datagrams_total', way] - streamed


def test_what_each_user_carried(lab, echo, tcp_echo):
    """What a session carried stays when it has ended; what is open is told by the limits' own count."""
    metrics = Metrics(lab)
    client = use(lab, metrics, echo, tcp_echo)
    time.sleep(0.11)

    def told():
        samples = metrics.samples()
        return [samples[name] for name in [('sealgram_user_datagrams_total', 'alice', 'up'),
                                           ('sealgram_user_datagrams_total', 'alice', 'down'),
                                           ('sealgram_user_bytes_total', 'alice', 'up'),
                                           ('sealgram_user_bytes_total', 'alice', 'down'),
                                           ('sealgram_user_dropped_datagrams_total', 'alice')]]
    samples = metrics.samples()
    assert samples['sealgram_user_sessions', 'alice'] == samples['sealgram_user_associations', 'alice'] == 1
    assert samples['sealgram_user_connections', 'alice'] == 1
    assert told() == [21, 20, 1002, 1000, 1]
    client.stop()
    wait_for(lambda: metrics.samples()['sealgram_sessions',] == 0, 5, 'the end of the session')
    assert told() == [21, 20, 1002, 1000, 1]
    assert ('sealgram_user_sessions', 'alice') not in metrics.samples()
    again = lab.client(metrics.invite)
    assert lab.open(SocksUdp(again.socks)).ask(b'12345', echo.address)[0] == b'12345'
    wait_for(lambda: told() == [22, 21, 1007, 1005, 1], 5, 'both sessions')


def test_no_user_is_named_unless_asked(lab, echo, tcp_echo):
    metrics = Metrics(lab, per_user=False)
    use(lab, metrics, echo, tcp_echo)
    time.sleep(0.11)
    text = metrics.text()
    assert 'alice' not in text and '127.0.0' not in text and 'sealgram_sessions 1\n' in text


def test_the_process_is_told_as_the_kernel_sees_it(used):
    samples = used.samples()
    pid = used.server.process.pid
    assert samples['process_open_fds',] > 10 and samples['process_max_fds',] >= 1024
    resident = int(open(f'/proc/{pid}/statm', encoding='ascii').read().split()[1]) * 4096
    assert abs(samples['process_resident_memory_bytes',] - resident) < 20_000_000
    assert 0 < samples['process_cpu_seconds_total',] < 600
    assert abs(samples['process_start_time_seconds',] - time.time()) < 120


@pytest.mark.parametrize(('request_line', 'status'), [
    (b'GET / HTTP/1.1', b'404 Not Found'),
    (b'GET /metrics/ HTTP/1.1', b'404 Not Found'),
    (b'GET /metrics?x=%2e%2e HTTP/1.1', b'200 OK'),
    (b'GET /metrics HTTP/1.0', b'200 OK'),
    (b'POST /metrics HTTP/1.1', b'405 Method Not Allowed'),
    (b'HEAD /metrics HTTP/1.1', b'405 Method Not Allowed'),
    (b'GET /metrics', b'400 Bad Request'),
    (b'GET /metrics HTTP/2', b'400 Bad Request'),
    (b'\x16\x03\x01\x00\x05', b'400 Bad Request'),
    (b'\0 \0 HTTP/1.1', b'400 Bad Request'),
    (b'', b'400 Bad Request'),
])
def test_one_resource_and_one_method(lab, request_line, status):
    metrics = Metrics(lab)
    answer = metrics.ask(request_line + b'\r\nHost: x\r\n\r\n')
    head, _, body = answer.partition(b'\r\n\r\n')
    assert head.startswith(b'HTTP/1.1 ' + status + b'\r\n') and b'\r\nConnection: close' in head
    assert f'Content-Length: {len(body)}'.encode() in head and bool(body) == (status == b'200 OK')


def test_a_request_without_end_is_cut_off(lab):
    metrics = Metrics(lab)
    assert metrics.ask(b'GET /metrics HTTP/1.1\r\nX: ' + b'x' * 9000).startswith(b'HTTP/1.1 431 ')
    assert metrics.samples()['sealgram_sessions',] == 0


@pytest.mark.slow
def test_who_holds_connections_does_not_hold_them_for_long(lab):
    """Idle, slow, and deaf ones: no more than a few at a time, and each is gone after seconds, whatever it does."""
    metrics = Metrics(lab)
    before = metrics.samples()['process_open_fds',]
    idle = [socket.create_connection(('127.0.0.1', metrics.port), 10) for _ in range(READERS_MAX - 1)]
    start = time.monotonic()
    assert metrics.samples()['process_open_fds',] <= before + READERS_MAX
    slow = socket.create_connection(('127.0.0.1', metrics.port), 10)
    refused = [socket.create_connection(('127.0.0.1', metrics.port), 10) for _ in range(50)]
    for sock in refused:
        assert sock.recv(1) == b''
        sock.close()
    assert time.monotonic() - start < READER_SECONDS - 1, 'there was a place for them'
    slow.settimeout(0.2)
    ended = False
    while not ended and time.monotonic() - start < READER_SECONDS + 3:
        try:
            slow.send(b'x')
            ended = slow.recv(1) == b''
        except TimeoutError:
            continue
        except OSError:
            ended = True
    assert ended and time.monotonic() - start > READER_SECONDS - 1.5
    for sock in idle:
        assert sock.recv(1) == b''
        sock.close()
    wait_for(lambda: metrics.samples()['process_open_fds',] <= before, 5, 'the descriptors')


def test_there_is_no_port_unless_asked(lab):
    folder, _, _ = lab.init()
    server = lab.server(folder)
    assert 'metrics' not in server.err


def test_an_address_that_is_taken_is_named(lab):
    with socket.create_server(('127.0.0.1', 0)) as other:
        port = other.getsockname()[1]
        folder, _, _ = lab.init()
        lab.edit_config(folder, f'metrics: {{listen: "127.0.0.1:{port}"}}')
        done = run('server', '-c', folder / 'server.yaml', '-q')
    assert done.returncode == 1
    assert done.stderr.startswith(f'sealgram: error: cannot listen on TCP 127.0.0.1:{port} (metrics): Address already in use: ')


def test_an_address_that_others_reach_is_refused_unless_said(lab):
    folder, _, _ = lab.init()
    number = len((folder / 'server.yaml').read_text().splitlines()) + 3
    lab.edit_config(folder, 'metrics:\n  listen: "0.0.0.0:9090"')
    done = run('server', '-c', folder / 'server.yaml', '--check')
    assert done.returncode == 3 and done.stderr == (
        f'sealgram: error: {folder}/server.yaml:{number}: metrics: listen is not a loopback address, so everyone who '
        'reaches it could read: say allow_remote: true if a firewall decides who may\n')
    lab.edit_config(folder, '  allow_remote: true')
    assert run('server', '-c', folder / 'server.yaml', '--check').returncode == 0


def test_a_wrong_path_says_so_to_programs(used):
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(f'http://127.0.0.1:{used.port}/', timeout=10)
    assert error.value.code == 404
