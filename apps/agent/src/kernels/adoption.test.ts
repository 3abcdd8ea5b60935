import type { KernelSpec } from '@backend.ai/contract';
import { AppError, deferred, parseResourceSlots, slotsToTexts } from '@backend.ai/core';
import { BackgroundTasks, ensureRequestId } from '@backend.ai/telemetry';
import { collectLogs, FakeClock, waitFor } from '@backend.ai/testing';
import { expect, it, onTestFinished } from 'vitest';
import { Accelerators } from '../accelerators/accelerators.ts';
import type { RecoveredKernel, RememberedKernel } from '../backends/backend.ts';
import { FakeBackend } from '../backends/fake/fake-backend.ts';
import { AllocationLedger } from '../resources/allocation-ledger.ts';
import { plainInventory } from '../resources/machine-inventory.ts';
import { Adoption } from './adoption.ts';
import type { UnnumberedEvent } from './outbox.ts';
import { KernelSupervisor } from './supervisor.ts';

const [runs, runsToo, died, fresh] = [1, 2, 3, 4].map((n) => `0b5a0c2e-6f51-4f0c-9d2b-1f5a1f2f3a4${n}`) as [
  string,
  string,
  string,
  string,
];
const specOf = (kernelId: string): KernelSpec => ({
  ...{ kernelId, sessionId: '7c1f5a4e-0b1c-4c52-8f35-9c3e1d2a5b6c', sessionName: 'test', accessKey: 'AKTEST' },
  ...{ image: 'local/python:3.11', clusterRole: 'main', clusterIndex: 1, hostname: 'main1', slots: { cpu: '1' } },
  environ: {},
});
const away = new AppError('engine-unavailable', 'The engine does not answer.');
const slotsHeld = (count: number) => ({ cpu: String(count) });

/** Simulated kernels of an engine that does not answer, of which two run and one has died. */
class AwayBackend extends FakeBackend {
  outage: AppError | undefined = away;
  /** Thrown instead, once it answers. */
  failure: AppError | undefined;
  asked = 0;
  /** How it begins. */
  before = async (): Promise<void> => {};

  remembered(): RememberedKernel[] {
    return [runs, runsToo, died].map((id) => ({
      ...{ spec: specOf(id), requestId: 'before', allocation: null, isWarmSlot: false },
    }));
  }

  override async recover(): Promise<RecoveredKernel[]> {
    this.asked += 1;
    await this.before();
    const problem = this.outage ?? this.failure;
    if (problem) throw problem;
    return await Promise.all(
      this.remembered().map(async ({ spec, requestId, allocation }): Promise<RecoveredKernel> => {
        const plan = this.plan(spec);
        for (const step of plan.steps) await step.run(new AbortController().signal, () => {});
        const end = { exitCode: 137, reason: 'engine-restarted' } as const;
        const outcome = spec.kernelId === died ? ({ kind: 'ended', end, batch: null } as const) : { kind: 'running' };
        return { spec, requestId, allocation, plan, outcome } as RecoveredKernel;
      }),
    );
  }
}

async function startedDuringOutage() {
  const clock = new FakeClock();
  const { logger, records } = collectLogs('agent');
  const tasks = new BackgroundTasks(logger);
  const backend = new AwayBackend({ clock });
  const ledger = new AllocationLedger(plainInventory(parseResourceSlots({ cpu: 8 })));
  const accelerators = new Accelerators({ sources: [], clock, logger });
  const events: UnnumberedEvent[] = [];
  const supervisor = new KernelSupervisor({
    diskFull: () => false,
    ...{ backend, ledger, accelerators, tasks, clock, logger },
    report: (event) => void events.push(event),
    usedBy: async () => undefined,
  });
  await ensureRequestId(() => supervisor.recover());
  onTestFinished(async () => {
    await supervisor.release();
    await tasks.drain();
  });
  return {
    ...{ supervisor, backend, clock, records, events },
    used: () => slotsToTexts(ledger.used),
    create: (kernelId: string) => ensureRequestId(() => supervisor.create(specOf(kernelId))),
    ended: (kernelId: string) =>
      events.find((event) => event.kernelId === kernelId && event.type === 'kernel-terminated'),
  };
}

it('kernels of an engine that does not answer are reported without a claim, hold what they had, and cannot be used', async () => {
  const { supervisor, used, create, events } = await startedDuringOutage();
  expect(supervisor.reports()).toMatchObject(
    [runs, runsToo, died].map((kernelId) => ({ kernelId, state: 'preparing', unknown: true })),
  );
  expect(supervisor.report(runs)).toMatchObject({ kernelId: runs, unknown: true });
  expect(used()).toEqual(slotsHeld(3));
  expect(() => supervisor.get(runs)).toThrow(away);
  expect(() => supervisor.get(fresh)).toThrow(expect.objectContaining({ code: 'kernel-not-found' }));
  expect(() => create(fresh)).toThrow(away);
  create(runs);
  expect(events).toEqual([]);
});

it('once it answers, those that run go on, those that died are told of, and others start', async () => {
  const { supervisor, backend, clock, create, ended, events } = await startedDuringOutage();
  backend.outage = undefined;
  await clock.advance(1_000);
  await supervisor.recovered;
  expect(supervisor.get(runs).report()).toMatchObject({ state: 'running' });
  await waitFor(() => ended(died));
  expect(ended(died)).toMatchObject({ reason: 'engine-restarted' });
  create(fresh);
  await waitFor(() => events.some(({ kernelId, type }) => kernelId === fresh && type === 'kernel-started'));
  expect(supervisor.outage).toBeUndefined();
});

it('what is to end ends once it answers, with the reason that was given first', async () => {
  const { supervisor, backend, clock, ended } = await startedDuringOutage();
  ensureRequestId(() => supervisor.destroy(runs, 'user-requested', false));
  ensureRequestId(() => supervisor.destroy(runs, 'kernel-lost', true));
  expect(supervisor.report(runs)).toMatchObject({ state: 'terminating', reason: 'user-requested' });
  backend.outage = undefined;
  await clock.advance(1_000);
  await waitFor(() => ended(runs));
  expect(ended(runs)).toMatchObject({ reason: 'user-requested' });
  expect(supervisor.get(runsToo).report()).toMatchObject({ state: 'running' });
});

it('an engine that answers and is of no use yet is asked again, and says why', async () => {
  const { supervisor, backend, clock, create, records } = await startedDuringOutage();
  backend.outage = undefined;
  backend.failure = new AppError('isolation-unavailable', 'There is no firewall.');
  for (let seconds = 0; seconds < 3; seconds++) await clock.advance(1_000);
  expect(backend.asked).toBe(3);
  expect(() => create(fresh)).toThrow('There is no firewall.');
  expect(records.filter(({ msg }) => msg === 'kernels cannot be taken over yet')).toHaveLength(1);
  backend.failure = undefined;
  await clock.advance(1_000);
  await supervisor.recovered;
  expect(supervisor.reports()).not.toContainEqual(expect.objectContaining({ unknown: true }));
});

it('all kernels of a cluster that ends are told of as left while nobody can end them', async () => {
  const { supervisor, clock } = await startedDuringOutage();
  const left = ensureRequestId(() => supervisor.endAll('cluster-shutdown', 5_000));
  await clock.advance(5_000);
  expect(await left).toEqual([runs, runsToo, died]);
});

it('a supervisor is released only after an attempt to take kernels over that was under way, and has none of them then', async () => {
  const { supervisor, backend, clock } = await startedDuringOutage();
  const begun = deferred();
  const mayGoOn = deferred();
  const order: string[] = [];
  backend.outage = undefined;
  backend.before = async () => {
    begun.resolve();
    await mayGoOn.promise;
    order.push('asked');
  };
  await clock.advance(1_000);
  await begun.promise;
  const released = supervisor.release().then(() => order.push('released'));
  // Long enough for one that would not wait.
  await new Promise((resolve) => setImmediate(resolve));
  mayGoOn.resolve();
  await released;
  expect(order).toEqual(['asked', 'released']);
  expect(supervisor.find(runs)).toBeUndefined();
});

it.each([
  ['at once', undefined],
  ['after an outage', away],
])('what is taken over %s is so once, though that goes wrong, which is logged', async (_, outage) => {
  const clock = new FakeClock();
  const { logger, records } = collectLogs('agent');
  const tasks = new BackgroundTasks(logger);
  const backend = new AwayBackend({ clock });
  backend.outage = outage;
  let times = 0;
  const adoption = new Adoption({
    ...{ backend, tasks, clock, logger, ledger: new AllocationLedger(plainInventory(parseResourceSlots({ cpu: 8 }))) },
    takeOver: async () => {
      times += 1;
      throw away;
    },
  });
  await adoption.begin();
  backend.outage = undefined;
  for (let seconds = 0; seconds < 3; seconds++) await clock.advance(1_000);
  await adoption.stop();
  expect({ times, failure: adoption.failure }).toEqual({ times: 1, failure: undefined });
  await adoption.done;
  expect(records.filter(({ msg }) => msg === 'not everything could be taken over')).toHaveLength(1);
});
