import { openEgress, type ResourceGroupOptionsInput } from '@backend.ai/contract';
import { newId } from '@backend.ai/core';
import { FakeClock } from '@backend.ai/testing';
import { expect, it } from 'vitest';
import type { SessionChange } from '../events.ts';
import { markOf, type PendingRecord } from '../repositories/queue.ts';
import { SchedulingMemory } from './scheduling-memory.ts';
import { SchedulingReader, type SchedulingSources } from './scheduling-reader.ts';

const tickMs = 1_000;
const owner = { keypair: 'AKIA', user: newId(), project: newId(), domain: 'default' };

const record = (priority = 10): PendingRecord => ({
  ...{ sessionId: newId(), resourceGroup: 'default', accessKey: owner.keypair, userId: owner.user },
  ...{ projectId: owner.project, domainName: owner.domain, type: 'interactive', clusterMode: 'single-node', priority },
  ...{ createdAt: '2030-01-01T00:00:00Z', queuedAt: '2030-01-01T00:00:00Z', jobPriority: 0, isPreemptible: true },
  ...{
    startsNotBefore: null,
    requestedPriority: null,
    designatedAgents: [],
    timeoutMs: null,
    reason: 'queued',
    previousAgents: [],
  },
  ...{ kernels: [], architecture: 'x86_64', fetchable: false, dependencies: [] },
  ...{ imageDigest: null, imageManifestDigest: null, shmem: null, attempts: 0 },
});

function world() {
  const clock = new FakeClock();
  const options: ResourceGroupOptionsInput = {};
  const rows: PendingRecord[] = [];
  /** What was asked for: ids, or the whole queue. */
  const reads: Array<readonly string[] | 'all'> = [];
  const queue = {
    pending: async (ids?: readonly string[]) => {
      reads.push(ids ?? 'all');
      return rows.filter(({ sessionId }) => ids?.includes(sessionId) ?? true);
    },
    holding: async () => [],
    marks: async () => ({ waiting: markOf(rows), holding: markOf([]), agents: '', rules: '' }),
  };
  const sources = {
    ...{
      queue,
      clock,
      directory: { reload: async () => ({ list: [] }) },
      groups: { schedulingOptions: async () => [{ name: 'default', scheduler: 'fifo', options, egress: openEgress }] },
    },
    warmPools: { slots: async () => [] },
    quotas: { liveOwners: async () => [owner], limits: async () => [] },
  } as unknown as SchedulingSources;
  const memory = new SchedulingMemory(new SchedulingReader(sources), clock, tickMs);
  const waiting = async () =>
    [...(await memory.snapshot(clock.now())).pending].map(({ sessionId }) => sessionId).sort();
  const stored = () => rows.map(({ sessionId }) => sessionId).sort();
  return { clock, rows, reads, memory, waiting, stored, options };
}

const queuedElsewhere = ({ sessionId }: PendingRecord) =>
  ({ sessionId, from: null, to: 'PENDING' }) as unknown as SessionChange;

it('sessions that another manager queued are read by themselves, not the whole queue', async () => {
  const { clock, rows, reads, memory, waiting, stored } = world();
  rows.push(record(), record());
  expect(await waiting()).toEqual(stored());
  expect(reads.splice(0)).toEqual(['all']);
  for (let count = 0; count < 3; count++) {
    const other = record();
    rows.push(other);
    memory.sessionChanged(queuedElsewhere(other));
    await clock.advance(tickMs);
    expect(await waiting()).toEqual(stored());
    await clock.advance(tickMs);
    expect(await waiting()).toEqual(stored());
    expect(reads.splice(0)).toEqual([[other.sessionId]]);
  }
});

it('the queue is read anew when somebody changed it of whom nothing was heard', async () => {
  const { clock, rows, reads, waiting, stored } = world();
  rows.push(record());
  await waiting();
  reads.length = 0;
  const changes = [
    () => rows.push(record()),
    () => rows.splice(0, 1),
    () => rows.splice(0, 1, { ...rows[0]!, priority: 20 }),
  ];
  for (const change of changes) {
    change();
    await clock.advance(tickMs);
    expect(await waiting()).toEqual(stored());
    expect(reads.splice(0)).toEqual(['all']);
  }
});

it('attempts count on from those of the leader before, one a minute unless the group wants another interval', async () => {
  const { clock, rows, memory, waiting, options } = world();
  const session = { ...record(), attempts: 3 };
  rows.push(session);
  await waiting();
  const attempts = async () => [...(await memory.snapshot(clock.now())).pending][0]?.attempts;
  expect(await attempts()).toBe(3);
  expect([memory.attempted(session.sessionId), memory.attempted(session.sessionId)]).toEqual([4, undefined]);
  expect(await attempts()).toBe(4);
  await clock.advance(59_000);
  expect(memory.attempted(session.sessionId)).toBeUndefined();
  await clock.advance(1_000);
  expect(memory.attempted(session.sessionId)).toBe(5);
  options.attemptInterval = 2;
  memory.rulesChanged();
  await waiting();
  await clock.advance(2_000);
  expect(memory.attempted(session.sessionId)).toBe(6);
});

it('attempts count on from those of whoever led in between, and begin anew with each wait', async () => {
  const { clock, rows, memory, waiting } = world();
  const session = record();
  const { sessionId } = session;
  rows.push(session);
  await waiting();
  const attempts = async () => [...(await memory.snapshot(clock.now())).pending][0]?.attempts ?? 0;
  memory.attempted(sessionId);
  await clock.advance(60_000);
  expect(memory.attempted(sessionId)).toBe(2);
  rows.splice(0, 1, { ...session, attempts: 4 });
  memory.forgetAll();
  await clock.advance(60_000);
  expect(await attempts()).toBe(4);
  expect(memory.attempted(sessionId)).toBe(5);
  expect(await attempts()).toBe(5);
  // Who waits anew has a row that says so.
  for (const [from, to] of [
    ['PENDING', 'DEPRIORITIZING'],
    ['DEPRIORITIZING', 'PENDING'],
  ])
    memory.sessionChanged({ sessionId, from, to } as unknown as SessionChange);
  rows.splice(0, 1, session);
  expect(await attempts()).toBe(0);
  expect(memory.attempted(sessionId)).toBe(1);
});
