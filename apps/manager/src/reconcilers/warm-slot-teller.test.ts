import { getEventListeners, getMaxListeners } from 'node:events';
import { AppError } from '@backend.ai/core';
import { BackgroundTasks, ensureRequestId, silentLogger } from '@backend.ai/telemetry';
import { waitFor } from '@backend.ai/testing';
import { expect, it } from 'vitest';
import { WarmSlotTeller } from './warm-slot-teller.ts';

it('agents that let their time pass again and again hold up none of the others, and are told all the same', async () => {
  const told: string[] = [];
  const calls = new Map<string, { end: () => void; giveUp: () => void }>();
  const teller = new WarmSlotTeller({
    clients: {
      call: (agentId: string) =>
        new Promise((resolve, reject) => {
          told.push(agentId);
          calls.set(agentId, {
            end: () => resolve(undefined as never),
            giveUp: () => reject(new AppError('deadline-exceeded', 'It did not answer in time.')),
          });
        }),
    },
    tasks: new BackgroundTasks(silentLogger),
    logger: silentLogger,
    orderDeadlineMs: 10_000,
  });
  const hanging = Array.from({ length: 20 }, (_, nth) => `hangs-${nth}`);
  const tell = (agentIds: readonly string[]): void =>
    ensureRequestId(() => {
      for (const agentId of agentIds) teller.tell({ agentId, bootId: 'b', slots: [], claimed: [], epoch: 1 });
    });
  /** Until all of them have been told once more, and let their time pass. */
  const letPass = async (): Promise<void> => {
    for (const agentId of hanging) {
      await waitFor(() => calls.has(agentId), { what: `${agentId} is told` });
      calls.get(agentId)?.giveUp();
      calls.delete(agentId);
    }
  };
  tell(hanging);
  await letPass();
  tell([...hanging, 'works']);
  await waitFor(() => told.includes('works'), { what: 'the one that works is told' });
  calls.get('works')?.end();
  await letPass();
  expect(told.filter((agentId) => agentId.startsWith('hangs'))).toHaveLength(40);
});

it('has as many listeners at its signal as it makes calls at once, which Node.js does not take for a leak', async () => {
  const signals: AbortSignal[] = [];
  const mutate = (_: unknown, { signal }: { signal: AbortSignal }): Promise<void> => {
    signals.push(signal);
    return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
  };
  const api = { keepWarmSlots: { mutate } };
  const call = (_: string, order: (to: typeof api) => Promise<void>): Promise<void> => order(api);
  const teller = new WarmSlotTeller({
    clients: { call } as never,
    tasks: new BackgroundTasks(silentLogger),
    logger: silentLogger,
    orderDeadlineMs: 10_000,
  });
  ensureRequestId(() => {
    for (let nth = 0; nth < 20; nth++)
      teller.tell({ agentId: `i-${nth}`, bootId: 'b', slots: [], claimed: [], epoch: 1 });
  });
  await waitFor(() => signals.length === 16, { what: 'the first are told' });
  const [signal] = signals as [AbortSignal];
  expect(getEventListeners(signal, 'abort')).toHaveLength(16);
  expect(getMaxListeners(signal)).toBe(16);
  teller.stop();
});
