import { InProcessLiveValues } from '@backend.ai/coordination';
import { AppError } from '@backend.ai/core';
import { BackgroundTasks } from '@backend.ai/telemetry';
import { collectLogs, FakeClock } from '@backend.ai/testing';
import { expect, it } from 'vitest';
import type { KeypairRecord, KeypairRepository } from '../../repositories/keypairs.ts';
import type { SecretBox } from '../installation-keys/secret-box.ts';
import { KeypairService } from './keypair-service.ts';

/** Away when told. */
class FailingValues extends InProcessLiveValues {
  away = false;
  asked = 0;

  override async increment(key: string, windowMs: number, by = 1) {
    this.asked += 1;
    if (this.away) throw new AppError('server-unreachable', 'Redis cannot be reached.');
    return await super.increment(key, windowMs, by);
  }
}

function service(rateLimit: number) {
  const record = { rateLimit, secretKeyEncrypted: '', role: 'user', isAdmin: false } as KeypairRecord;
  const [liveValues, clock, logs] = [new FailingValues(), new FakeClock(), collectLogs('manager')];
  const keypairs = new KeypairService({
    keypairs: { findActive: async () => record, markUsed: async () => undefined } as unknown as KeypairRepository,
    box: { decrypt: () => 'secret' } as unknown as SecretBox,
    ...{ liveValues, clock, cacheMs: 60_000, logger: logs.logger, tasks: new BackgroundTasks(logs.logger) },
  });
  return { keypairs, liveValues, clock, logs };
}

it('calls pass uncounted while live values are away, and are counted again afterwards', async () => {
  const { keypairs, liveValues, clock, logs } = service(10);
  expect(await keypairs.countCalls('A', 4)).toEqual({ limit: 10, remaining: 6 });
  liveValues.away = true;
  expect(await keypairs.countCalls('A', 100)).toEqual({ limit: 10, remaining: 10 });
  const { asked } = liveValues;
  expect(await keypairs.countCalls('A', 100)).toEqual({ limit: 10, remaining: 10 });
  expect(liveValues.asked).toBe(asked);
  expect(logs.records.map(({ msg }) => msg)).toEqual(['calls cannot be counted and pass']);
  liveValues.away = false;
  await clock.advance(1_000);
  expect(await keypairs.countCalls('A', 7)).toEqual({ limit: 10, remaining: -1 });
});

it('calls of a key without a limit are not counted', async () => {
  const { keypairs, liveValues } = service(0);
  expect(await keypairs.countCalls('A', 4)).toEqual({ limit: 0, remaining: 0 });
  expect(liveValues.asked).toBe(0);
});
