import type { ResourceSlots } from '@backend.ai/core';
import {
  imageKey,
  type PendingSession,
  type ResourceGroup,
  SchedulingState,
  type Snapshot,
  schedule,
} from '@backend.ai/scheduler';
import { naiveSchedule } from '@backend.ai/scheduler/testing';
import { type Bench, type BenchResult, percentile } from './bench.ts';

const gib = 1024n ** 3n * 1000n;
const images = ['python', 'torch', 'node', 'shell'];
const now = 1_000_000_000;

/** The same numbers in each run. */
function sequence(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

interface WorldOptions {
  readonly agents: number;
  readonly pending: number;
  readonly group?: Partial<ResourceGroup>;
  /** No two sessions ask for the same. */
  readonly distinct?: boolean;
  /** Agents have nothing free. */
  readonly full?: boolean;
}

/** A quarter of the agents has accelerators; a tenth of the sessions wants some. */
function world({ agents, pending, group = {}, distinct = false, full = false }: WorldOptions): Snapshot {
  const next = sequence(7);
  const pick = <T>(list: readonly T[]): T => list[next(list.length)]!;
  return {
    now,
    groups: [{ name: 'default', ...group }],
    agents: Array.from({ length: agents }, (_, i) => {
      const capacity = { cpu: 64_000n, mem: 256n * gib, ...(i % 4 === 0 ? { 'cuda.device': 8_000n } : {}) };
      return {
        id: `i-${String(i).padStart(5, '0')}`,
        status: 'ALIVE',
        schedulable: true,
        resourceGroup: 'default',
        architecture: 'x86_64',
        images: images.map((image) => imageKey(image, 'x86_64')),
        capacity,
        used: full ? capacity : { cpu: BigInt(next(32)) * 1000n, mem: BigInt(next(128)) * gib },
      };
    }),
    pending: Array.from({ length: pending }, (_, i): PendingSession => {
      const user = `user-${next(500)}`;
      const accelerators: ResourceSlots = next(10) === 0 ? { 'cuda.device': BigInt(1 + next(2)) * 1000n } : {};
      return {
        sessionId: `s-${String(i).padStart(6, '0')}`,
        resourceGroup: 'default',
        owner: { keypair: user, user, project: `project-${next(50)}`, domain: 'default' },
        kernels: [
          {
            kernelId: `k-${i}`,
            role: 'main',
            index: 1,
            slots: {
              cpu: BigInt(pick([1, 2, 4, 8])) * 1000n,
              mem: BigInt(pick([1, 2, 4, 8, 16])) * gib + (distinct ? BigInt(i) * 1000n : 0n),
              ...accelerators,
            },
            image: pick(images),
            architecture: 'x86_64',
          },
        ],
        createdAt: now - pending + i,
        priority: pick([10, 10, 10, 20]),
      };
    }),
    running: [],
    quotas: Array.from({ length: 500 }, (_, i) => ({
      scope: 'keypair',
      id: `user-${i}`,
      limits: { cpu: 10_000_000n },
      maxSessions: 1_000,
    })),
    fairShares: [],
  };
}

function timed<T>(work: () => T): { ms: number; result: T } {
  const begun = performance.now();
  const result = work();
  return { ms: performance.now() - begun, result };
}

export const bench: Bench = {
  name: 'scheduler',
  run({ quick }): Promise<BenchResult & { decisionsPerSecond: number }> {
    const rounds = quick ? 3 : 9;
    const rows: Array<Array<string | number>> = [];
    const median = (samples: readonly number[]): number => percentile(samples, 0.5);

    /** Fresh state each time: compiling, then a pass that decides on every session. */
    const decide = (what: string, options: WorldOptions): number => {
      const snapshot = world(options);
      const compile: number[] = [];
      const pass: number[] = [];
      for (let round = 0; round < rounds; round++) {
        const state = new SchedulingState(snapshot);
        compile.push(timed(() => state.compile()).ms);
        const { ms, result } = timed(() => state.plan(now));
        if (result.placements.length !== options.pending) throw new Error('The cluster should hold all sessions.');
        pass.push(ms);
      }
      const perSecond = (options.pending / median(pass)) * 1000;
      rows.push([what, options.agents, options.pending, median(compile), median(pass), perSecond]);
      return perSecond;
    };

    const sizes = quick ? [250, 500, 1_000, 2_000] : [625, 1_250, 2_500, 5_000];
    const largest = sizes.at(-1)!;
    const all = { agents: largest, pending: 2 * largest };
    // Compiles the code, too.
    decide('warming up', { agents: 500, pending: 1_000 });
    rows.length = 0;
    const growth = sizes.map((agents) => decide('mixed sizes, fifo, dispersed', { agents, pending: 2 * agents }));
    const decisionsPerSecond = growth.at(-1)!;
    decide('concentrated', { ...all, group: { selection: 'concentrated' } });
    decide('drf', { ...all, group: { scheduler: 'drf' } });
    decide('fair-share', { ...all, group: { scheduler: 'fair-share' } });
    decide('no two requests alike', { ...all, distinct: true });

    const small = world({ agents: largest, pending: quick ? 20 : 40 });
    const naive = timed(() => naiveSchedule(small)).ms;
    const ours = median(Array.from({ length: rounds }, () => timed(() => schedule(small)).ms));
    rows.push(['naive reference', largest, small.pending.length, '', naive, (small.pending.length / naive) * 1000]);
    rows.push([
      'ours, compiling included',
      largest,
      small.pending.length,
      '',
      ours,
      (small.pending.length / ours) * 1000,
    ]);

    const blocked = new SchedulingState(world({ ...all, full: true }));
    const idle: number[] = [];
    const explain: number[] = [];
    blocked.plan(now);
    const at = now + 20 * rounds;
    const { agents } = blocked.snapshot(now);
    for (let round = 1; round <= 20 * rounds; round++) {
      // What an agent holds has changed, so that the last plan is not simply told again; but there is still no room.
      blocked.setAgent({ ...agents[round % agents.length]!, kernelCount: round });
      idle.push(timed(() => blocked.plan(now + round)).ms);
    }
    for (let round = 0; round < 20 * rounds; round++) {
      const sessionId = `s-${String((round * 97) % all.pending).padStart(6, '0')}`;
      explain.push(timed(() => blocked.explain(sessionId, at)).ms);
    }
    rows.push(['pass with nothing to do: all behind one head', all.agents, all.pending, '', median(idle), '']);
    rows.push(['explaining one session', all.agents, all.pending, '', median(explain), '']);

    const calm = new SchedulingState({ ...world({ agents: largest, pending: 1 }), pending: [] });
    calm.plan(now);
    const sessions = world({ agents: 1, pending: 20 * rounds }).pending;
    const single = sessions.map((session) => {
      calm.queue(session);
      const { ms, result } = timed(() => calm.plan(now));
      calm.placed(result.placements[0]!, now);
      return ms;
    });
    rows.push(['one session arrives', largest, 1, '', median(single), '']);

    const figures = {
      decisionsPerSecond: Math.round(decisionsPerSecond),
      idle: median(idle),
      explain: median(explain),
    };
    return Promise.resolve({
      title: 'Scheduler',
      decisionsPerSecond: figures.decisionsPerSecond,
      columns: ['what', 'agents', 'sessions', 'compile ms', 'pass ms', 'decisions/s'],
      rows,
      targets: [
        {
          name: `decisions on one core, ${all.agents} agents, ${all.pending} sessions (at least)`,
          value: figures.decisionsPerSecond,
          limit: 10_000,
          unit: '1/s',
          ok: figures.decisionsPerSecond >= 10_000,
        },
        { name: 'pass with nothing to do', value: figures.idle, limit: 5, unit: 'ms', ok: figures.idle <= 5 },
        { name: 'explaining one session', value: figures.explain, limit: 10, unit: 'ms', ok: figures.explain <= 10 },
        {
          name: 'time per decision, largest beside smallest size',
          value: growth[0]! / growth.at(-1)!,
          limit: 4,
          unit: '×',
          ok: growth[0]! / growth.at(-1)! <= 4,
        },
      ],
    });
  },
};
