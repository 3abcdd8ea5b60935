import { FakeClock } from '@backend.ai/testing';
import { expect, it } from 'vitest';
import type { IdleRepository, RunningSessionRecord } from '../../repositories/idle.ts';
import type { KernelStatistics } from '../statistics/kernel-statistics.ts';
import { IdleService } from './idle-service.ts';
import { defaultIdleSettings } from './idle-settings.ts';
import type { SessionActivity } from './session-activity.ts';

it('judges all that runs, and asks for no more than some hundred of them at once', async () => {
  const clock = new FakeClock();
  const session = (id: string): RunningSessionRecord => ({
    ...{ id, name: id, type: 'interactive', requestId: 'r', createdAtMs: 0, startedAtMs: 0, userCreatedAtMs: 0 },
    ...{ paused: false, resumedAtMs: null, idleTimeoutS: null, maxLifetimeS: 0, kernels: [] },
  });
  const running = Array.from({ length: 1_050 }, (_, at) => session(`s-${at}`));
  let [atOnce, most] = [0, 0];
  const asked = async () => {
    atOnce += 1;
    most = Math.max(most, atOnce);
    await Promise.resolve();
    atOnce -= 1;
    return undefined;
  };
  const idle = new IdleService({
    rows: { running: async () => running } as unknown as IdleRepository,
    statistics: {} as KernelStatistics,
    activity: { startCounting: asked, lastAccess: asked } as unknown as SessionActivity,
    settings: () => ({ ...defaultIdleSettings, enabled: new Set(['network_timeout' as const]) }),
    clock,
  });
  expect((await idle.judgeAll()).map((judgement) => judgement.session.id)).toEqual(running.map(({ id }) => id));
  expect(most).toBeLessThanOrEqual(500);
});
