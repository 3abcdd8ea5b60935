import type { ConfigChange, ConfigStore } from '@backend.ai/coordination';
import { collectLogs, FakeClock } from '@backend.ai/testing';
import { expect, it, onTestFinished } from 'vitest';
import { defaultIdleSettings } from './idle-settings.ts';
import { IdleSettingsSource } from './idle-settings-source.ts';

function world() {
  const entries = new Map<string, string>();
  let tell: (change: ConfigChange) => void = () => {};
  const configStore = {
    list: async () => [...entries].map(([key, value]) => ({ key, value, revision: 1 })),
    watch: (_prefix: string, onChange: (change: ConfigChange) => void) => {
      tell = onChange;
      return () => {};
    },
  } as unknown as ConfigStore;
  const clock = new FakeClock();
  const logs = collectLogs('manager');
  const source = new IdleSettingsSource({ configStore, tickMs: 5_000, clock, logger: logs.logger });
  source.start();
  onTestFinished(() => source.stop());
  const put = async (name: string, value: string) => {
    const key = `config/idle/${name}`;
    entries.set(key, value);
    tell({ key, value, revision: 2 });
    await clock.advance(1);
  };
  const remove = async (name: string) => {
    entries.delete(`config/idle/${name}`);
    await clock.advance(5_000);
  };
  return { source, logs, put, remove };
}

it('settings of idle checkers are read as soon as they change, by their official names', async () => {
  const { source, put, remove } = world();
  expect(source.current).toEqual(defaultIdleSettings);
  await put('enabled', 'network_timeout, utilization');
  await put('checkers/network_timeout/threshold', '30m');
  await put('checkers/utilization/time-window', '900');
  await put('checkers/utilization/thresholds-check-operator', 'or');
  await put('checkers/utilization/resource-thresholds/cpu_util/average', '5');
  await put('checkers/utilization/resource-thresholds/mem/average', '10.5');
  await put('app-streaming-packet-timeout', '5m');
  expect(source.current).toEqual({
    ...defaultIdleSettings,
    enabled: new Set(['network_timeout', 'utilization']),
    networkTimeoutMs: 1_800_000,
    windowMs: 900_000,
    operator: 'or',
    thresholds: { cpu_util: 5, mem: 10.5 },
  });
  await remove('checkers/utilization/resource-thresholds/mem/average');
  expect(source.current.thresholds).toEqual({ cpu_util: 5 });
});

it('a value that makes no sense is refused with one line, and the one before stays', async () => {
  const { source, logs, put } = world();
  await put('checkers/network_timeout/threshold', '30m');
  for (const bad of ['soon', '-5', '']) await put('checkers/network_timeout/threshold', bad);
  await put('enabled', 'network_timeout,everything');
  await put('checkers/utilization/time-window', '2h');
  await put('checkers/utilization/resource-thresholds/mem/average', '101');
  await put('checkers/utilization/initial-grace-period', '1m');
  expect(source.current).toEqual({ ...defaultIdleSettings, networkTimeoutMs: 1_800_000, initialGraceMs: 60_000 });
  const refused = logs.records.filter(({ msg }) => msg === 'idle setting refused');
  expect(refused.map(({ value }) => value)).toEqual(['soon', '-5', '', 'network_timeout,everything', '2h', '101']);
});
