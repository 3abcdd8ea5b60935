import type { KernelSpec } from '@backend.ai/contract';
import { type Deferred, deferred, newId, parseResourceSlots, systemClock, Turns } from '@backend.ai/core';
import { BackgroundTasks, ensureRequestId } from '@backend.ai/telemetry';
import { collectLogs, waitFor } from '@backend.ai/testing';
import { expect, it, onTestFinished } from 'vitest';
import { Accelerators } from '../accelerators/accelerators.ts';
import type { CreateStep, KernelPlan } from '../backends/backend.ts';
import { FakeBackend } from '../backends/fake/fake-backend.ts';
import { AllocationLedger } from '../resources/allocation-ledger.ts';
import { plainInventory } from '../resources/machine-inventory.ts';
import type { UnnumberedEvent } from './outbox.ts';
import { KernelSupervisor } from './supervisor.ts';

/** Simulated kernels of which one at a time is launched, each when the test lets it. */
async function oneAtATime() {
  const turns = new Turns(1);
  const launching = new Map<string, Deferred<void>>();
  class CrowdedBackend extends FakeBackend {
    override plan(spec: KernelSpec): KernelPlan {
      const plan = super.plan(spec);
      const crowded = (step: CreateStep): CreateStep => ({
        ...step,
        turns,
        async run(signal, tell) {
          const gate = deferred();
          launching.set(spec.kernelId, gate);
          await gate.promise;
          launching.delete(spec.kernelId);
          await step.run(signal, tell);
        },
      });
      return { ...plan, steps: plan.steps.map((step) => (step.name === 'launch' ? crowded(step) : step)) };
    }
  }
  const { logger } = collectLogs('agent');
  const events: UnnumberedEvent[] = [];
  const tasks = new BackgroundTasks(logger);
  const supervisor = new KernelSupervisor({
    ...{ tasks, logger, clock: systemClock, backend: new CrowdedBackend({ clock: systemClock }) },
    ledger: new AllocationLedger(plainInventory(parseResourceSlots({ cpu: 8 }))),
    accelerators: new Accelerators({ sources: [], clock: systemClock, logger }),
    report: (event) => void events.push(event),
    diskFull: () => false,
    usedBy: async () => undefined,
  });
  await ensureRequestId(() => supervisor.recover());
  onTestFinished(async () => {
    const ending = supervisor.release();
    for (const gate of launching.values()) gate.resolve();
    await ending;
    await tasks.drain();
  });
  return {
    launching: () => [...launching.keys()],
    create(): string {
      const [kernelId, sessionId] = [newId(), newId()];
      ensureRequestId(() =>
        supervisor.create({
          ...{ kernelId, sessionId, sessionName: 'test', accessKey: 'AKTEST', image: 'local/python:3.11' },
          ...{ clusterRole: 'main', clusterIndex: 1, hostname: 'main1', slots: { cpu: '1' }, environ: {} },
        }),
      );
      return kernelId;
    },
    slot(): string {
      const slotId = newId();
      const wished = [{ slotId, image: 'local/python:3.11', slots: { cpu: '1' } }];
      ensureRequestId(() => supervisor.warmSlots.keep({ wished, claimed: [] }));
      return slotId;
    },
    launch: (kernelId: string) => launching.get(kernelId)?.resolve(),
    destroy: (kernelId: string) => ensureRequestId(() => supervisor.destroy(kernelId, 'user-requested', false)),
    heard: (type: UnnumberedEvent['type'], kernelId: string) =>
      waitFor(() => events.some((event) => event.type === type && event.kernelId === kernelId)),
  };
}

it('a kernel ends at once while others are started, whether it runs or waits for its turn', async () => {
  const w = await oneAtATime();
  const runs = w.create();
  await waitFor(() => w.launching().includes(runs));
  w.launch(runs);
  await w.heard('kernel-started', runs);
  const [first, second, third] = [w.create(), w.create(), w.create()];
  await waitFor(() => w.launching().includes(first));
  w.destroy(second);
  w.destroy(runs);
  await w.heard('kernel-terminated', second);
  await w.heard('kernel-terminated', runs);
  expect(w.launching()).toEqual([first]);
  w.launch(first);
  await waitFor(() => w.launching().includes(third));
});

it('what is started ahead waits until no kernel of a session does', async () => {
  const w = await oneAtATime();
  const first = w.create();
  await waitFor(() => w.launching().includes(first));
  const slot = w.slot();
  const second = w.create();
  // Both have come to where they wait.
  await new Promise(setImmediate);
  w.launch(first);
  await waitFor(() => w.launching().includes(second));
  w.launch(second);
  await waitFor(() => w.launching().includes(slot));
});
