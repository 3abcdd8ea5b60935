import { expect, it, onTestFinished } from 'vitest';
import { MachineFiles, machineMeasurements } from './machine-measurements.ts';

const texts = {
  stat: 'cpu  1000 10 200 5000 70 0 30 5 99 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n',
  meminfo: 'MemTotal:        8000 kB\nMemFree:         1000 kB\nMemAvailable:    3000 kB\n',
  netDev: [
    'Inter-|   Receive                                                |  Transmit',
    ' face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed',
    '    lo: 999 1 0 0 0 0 0 0 999 1 0 0 0 0 0 0',
    '  eth0:100 1 0 0 0 0 0 0 20 1 0 0 0 0 0 0',
    'docker0: 100 1 0 0 0 0 0 0 20 1 0 0 0 0 0 0',
  ].join('\n'),
};
const disk = { blocks: 100, bfree: 40, bavail: 30, bsize: 4096 };

it('a machine tells busy time, memory that is not to be had, its disk, and what came through real interfaces', () => {
  expect(machineMeasurements(texts, disk, (name) => name === 'eth0')).toEqual({
    cpu_util: { kind: 'growth', unit: 'msec', value: 12_450, capacity: null },
    mem: { kind: 'gauge', unit: 'bytes', value: 5_000 * 1024, capacity: 8_000 * 1024 },
    disk: { kind: 'gauge', unit: 'bytes', value: 60 * 4096, capacity: 90 * 4096 },
    net_rx: { kind: 'rate', unit: 'bps', value: 100, capacity: null },
    net_tx: { kind: 'rate', unit: 'bps', value: 20, capacity: null },
  });
  expect(machineMeasurements(texts, disk, () => false).net_rx?.value).toBe(200);
});

it('what is not told is unknown', () => {
  const nothing = { stat: null, meminfo: null, netDev: null };
  expect(Object.values(machineMeasurements(nothing, null, () => true))).toEqual([null, null, null, null, null]);
  expect(
    machineMeasurements({ ...nothing, stat: 'garbage', meminfo: 'MemTotal: 1 kB' }, null, () => true),
  ).toMatchObject({
    cpu_util: null,
    mem: null,
  });
});

it('this very machine can be measured', async () => {
  const files = new MachineFiles('/');
  onTestFinished(() => files.close());
  const { cpu_util: cpu, mem, disk: root } = await files.measure();
  expect(cpu?.value).toBeGreaterThan(0);
  expect(mem?.value).toBeLessThan(mem?.capacity ?? 0);
  expect(root?.capacity).toBeGreaterThan(0);
});
