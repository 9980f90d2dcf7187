"""Figures of a result of bench/loss: the excess over the path's own delay, tables."""
import report

OURS = 'sealgram'
SHARES = {'p50': 'p50_us', 'p90': 'p90_us', 'p99': 'p99_us', 'p999': 'p999_us', 'max': 'max_us'}
COLUMNS = [('share', 'delivered %', '{:.2f}', 100), ('excess_p50_ms', 'p50 ms', '{:.2f}', 1),
           ('excess_p99_ms', 'p99 ms', '{:.2f}', 1), ('excess_p999_ms', 'p99.9 ms', '{:.2f}', 1),
           ('excess_max_ms', 'max ms', '{:.2f}', 1), ('duplicates', 'doubled', '{:.0f}', 1),
           ('corrupt', 'corrupt', '{:.0f}', 1), ('udp_per_datagram', 'UDP packets each', '{:.2f}', 1),
           ('tcp_per_datagram', 'TCP packets each', '{:.2f}', 1)]


def one_line(figures):
    if 'failed' in figures:
        return f"failed: {figures['failed']}"
    delays = ', '.join(f'{name} {figures[key] / 1000:.2f}' for name, key in SHARES.items())
    return f"delivered {figures['delivered']} of {figures['sent']}, ms: {delays}"


def path_delay_us(result, case):
    """One way, without loss and without a relay; None where that was not measured."""
    rtt, _, rate = case.split(':')
    for known in (f'{rtt}:loss0:{rate}', case):
        found = report.median(result, known, 'direct', 'p50_us')
        if found:
            return found
    return None


def add_excess(result):
    for case, lanes in result['cases'].items():
        base = path_delay_us(result, case)
        for figures in (figures for rounds in lanes.values() for figures in rounds):
            if base is not None and 'failed' not in figures:
                figures.update({f'excess_{name}_ms': round((figures[key] - base) / 1000, 4)
                                for name, key in SHARES.items()})


def title(result, case):
    rtt, loss, rate = (part.lstrip("ratelos") for part in case.split(":"))
    base = path_delay_us(result, case)
    own = f', the path alone {base / 1000:.2f} ms' if base else ''
    return f'round trip {rtt} ms, {loss} % lost each way, {rate} datagrams/s{own}; excess:'


def row(result, case, lane):
    figures = result['cases'][case][lane][0]
    cells = [form.format(figures[key] * scale) if key in figures else '-' for key, _, form, scale in COLUMNS]
    ratios = report.ratios(result, case, lane, OURS, 'excess_p999_ms') if lane != OURS else []
    note = f'failed: {figures["failed"]}' if 'failed' in figures else f'{ratios[0]:.1f}' if ratios else ''
    return [lane, *cells, note]


def table(result, case):
    rows = [['', *(heading for _, heading, _, _ in COLUMNS), f'p99.9 / {OURS}']]
    rows += [row(result, case, lane) for lane in result['cases'][case]]
    return '\n'.join([title(result, case), *report.layout(rows)])


def tables(result):
    machine = result['machine']
    text = [f"{result['date']} {result['commit']}: {machine['cpus']} CPUs ({machine['model']}), Linux "
            f"{machine['kernel']}; {result['seconds']:g} s a cell, seed {result['seed']}"]
    text += [table(result, case) for case in result['cases']]
    text += [f'missing: {name}: {reason}' for name, reason in result['missing'].items()]
    return '\n\n'.join(text)
