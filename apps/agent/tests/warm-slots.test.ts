import { expect, it } from 'vitest';
import { agentWorld, codeOf } from './agent-world.ts';
import { slotSpec, warmSlotSuite } from './warm-slot-suite.ts';

warmSlotSuite('the fake backend', {
  backend: 'fake',
  image: 'local/python:3.11',
  steps: ['make-scratch', 'allocate-uid', 'make-cgroups', 'write-facts', 'launch', 'await-runner'],
});

it('an agent of processes keeps no warm slots, and says so', async () => {
  const w = await agentWorld();
  const { api } = await w.startAgent();
  expect(w.gateway.registrations[0]?.features).toBeUndefined();
  const slots = [slotSpec('local/python:3.11')];
  expect(await codeOf(api.keepWarmSlots.mutate({ slots }))).toBe('unsupported-feature');
});
