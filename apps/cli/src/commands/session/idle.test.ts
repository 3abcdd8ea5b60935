import type { IdleCheckView } from '@backend.ai/client';
import { startFakeApi } from '@backend.ai/client/testing';
import { expect, it } from 'vitest';
import { runCli } from '../../testing/run-cli.ts';

const utilization: IdleCheckView = {
  ...{ checker: 'utilization', verdict: 'active', explanation: 'It uses less than it should.', remainingMs: 16_000 },
  remainingKind: 'expire_after',
  evidence: {
    ...{ windowMs: 60_000, coveredMs: 44_000, operator: 'and' },
    metrics: {
      cpu_util: { average: 3.25, threshold: 30, isBelow: true },
      mem: { average: 50, threshold: 10, isBelow: false },
      io_read: { average: 2_048, threshold: 4_096, isBelow: true },
      cuda_util: { average: null, threshold: 20, isBelow: null },
    },
  },
};

it('what a verdict on utilisation was made of is shown: averages, thresholds, and how much was observed', async () => {
  await using api = await startFakeApi();
  await runCli(['session', 'create', '--name', 'work', 'python'], { api, cwd: '/' });
  for (const session of api.sessions.values()) session.idleChecks = [utilization];
  const { stdout } = await runCli(['session', 'idle', 'work'], { api, cwd: '/' });
  expect(stdout.split('\n').slice(2)).toEqual([
    'utilization:',
    '  cpu_util: 3.3 % on average, threshold 30 % (below)',
    '  mem: 50.0 % on average, threshold 10 %',
    '  io_read: 2048.0 bytes/s on average, threshold 4096 bytes/s (below)',
    '  cuda_util: not measured, threshold 20 %',
    '  observed: 44 s of 60 s',
    '',
  ]);
});
