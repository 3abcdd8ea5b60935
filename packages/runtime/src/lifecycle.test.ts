import { silentLogger } from '@backend.ai/telemetry';
import { expect, test } from 'vitest';
import { Lifecycle, type Part } from './lifecycle.ts';

function recording(log: string[], name: string, faults: { start?: boolean; stop?: boolean } = {}): Part {
  return {
    name,
    start: () => {
      log.push(`start ${name}`);
      if (faults.start) throw new Error('start fault');
    },
    stop: () => {
      log.push(`stop ${name}`);
      if (faults.stop) throw new Error('stop fault');
    },
  };
}

const lifecycle = (): Lifecycle => new Lifecycle({ logger: silentLogger, stopDeadlineMs: 50 });

test('parts start in order and stop in reverse, once', async () => {
  const log: string[] = [];
  const life = lifecycle();
  await life.start([recording(log, 'a'), recording(log, 'b')]);
  await Promise.all([life.stop(), life.stop()]);
  expect(log).toEqual(['start a', 'start b', 'stop b', 'stop a']);
});

test('a failed start stops what had started and is reported', async () => {
  const log: string[] = [];
  const life = lifecycle();
  await expect(life.start([recording(log, 'a'), recording(log, 'b', { start: true })])).rejects.toThrow('start fault');
  expect(log).toEqual(['start a', 'start b', 'stop b', 'stop a']);
});

test('one part that fails or hangs at its stop does not keep the others', async () => {
  const log: string[] = [];
  const life = lifecycle();
  const hanging: Part = { name: 'hanging', stop: () => new Promise(() => {}) };
  await life.start([recording(log, 'a'), recording(log, 'b', { stop: true }), hanging]);
  await life.stop();
  expect(log.slice(2)).toEqual(['stop b', 'stop a']);
});
