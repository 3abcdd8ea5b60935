import type { ExecuteInput, UserActor } from '@backend.ai/contract';
import { AppError, deferred } from '@backend.ai/core';
import { FakeClock } from '@backend.ai/testing';
import { beforeEach, describe, expect, it } from 'vitest';
import { KernelService } from './kernel-service.ts';
import { RunningKernels } from './running-kernels.ts';

const actor = { kind: 'user', accessKey: 'A', role: 'user' } as UserActor;
const input: ExecuteInput = { mode: 'query', code: '1', options: {}, flushMs: 0, holdMs: 0, timeoutMs: 0 };

/** What the database says of the name `demo`. */
let truth: { id: string; status: string; kernels: Array<{ id: string; agentId: string }> };
/** What agents have, or how they fail. */
let agents: Map<string, string | AppError>;
let looks: number;
let orders: string[];
let gate: Promise<void>;
let clock: FakeClock;
let running: RunningKernels;
let kernels: KernelService;

const session = (id: string, kernelId: string, agentId = 'i-one', status = 'RUNNING') => ({
  id,
  name: 'demo',
  status,
  statusReason: 'started',
  kernels: [{ id: kernelId, agentId }],
});

beforeEach(() => {
  truth = session('s1', 'k1');
  agents = new Map([['i-one', 'k1']]);
  looks = 0;
  orders = [];
  gate = Promise.resolve();
  clock = new FakeClock();
  running = new RunningKernels(clock);
  const find = async () => {
    looks += 1;
    const seen = truth;
    await gate;
    return seen;
  };
  const call = async (agentId: string, work: (api: unknown) => unknown) => {
    const has = agents.get(agentId);
    if (has instanceof AppError) throw has;
    const mutate = async ({ kernelId }: { kernelId: string }) => {
      orders.push(kernelId);
      if (kernelId !== has) throw new AppError('kernel-not-found', 'No such kernel.');
      return kernelId;
    };
    return await work({ execute: { mutate } });
  };
  type Given = ConstructorParameters<typeof KernelService>;
  const activity = { during: (_: string, work: () => Promise<unknown>) => work() };
  const given = [{ find }, { findById: find }, {}, { call }, running, activity];
  kernels = new KernelService(...(given as unknown as Given));
});

const execute = (more: Partial<ExecuteInput> = {}, by = actor) =>
  kernels.execute('demo', { ...input, ...more }, by, undefined);

describe('a call inside a session', () => {
  it('looks the session up once, and again after it changed, after a while, and for somebody else', async () => {
    for (let i = 0; i < 3; i++) expect(await execute()).toBe('k1');
    expect(looks).toBe(1);
    running.forget('s1');
    await execute();
    expect(looks).toBe(2);
    await clock.advance(5_000);
    await execute();
    expect(looks).toBe(3);
    await execute({}, { ...actor, accessKey: 'B' });
    expect(looks).toBe(4);
  });

  it('goes to the session that has the name now, whatever was remembered', async () => {
    await execute();
    truth = session('s2', 'k2', 'i-two');
    agents = new Map([
      ['i-one', 'nothing'],
      ['i-two', 'k2'],
    ]);
    expect(await execute()).toBe('k2');
    expect(await execute()).toBe('k2');
    expect(orders).toEqual(['k1', 'k1', 'k2', 'k2']);
    truth = session('s3', 'k3');
    agents = new Map<string, string | AppError>([
      ['i-one', 'k3'],
      ['i-two', new AppError('agent-unreachable', 'Gone.')],
    ]);
    expect(await execute()).toBe('k3');
  });

  it('is told that the session ended elsewhere', async () => {
    await execute();
    truth = session('s1', 'k1', 'i-one', 'TERMINATED');
    agents.set('i-one', 'nothing');
    const hint = expect.stringMatching(/^Create another one .* logs /) as string;
    await expect(execute()).rejects.toMatchObject({ code: 'session-not-running', hint });
    await expect(execute({ mode: 'continue', runId: 'r' })).rejects.toMatchObject({ code: 'session-not-running' });
  });

  it('is not repeated when its agent is where it was', async () => {
    await execute();
    orders.length = 0;
    agents.set('i-one', 'nothing');
    await expect(execute()).rejects.toMatchObject({ code: 'kernel-not-found' });
    expect(orders).toEqual(['k1']);
  });

  it('remembers nothing that changed while it was looked up', async () => {
    const looking = deferred();
    gate = looking.promise;
    const first = execute();
    running.forget('s1');
    looking.resolve();
    await first;
    await execute();
    expect(looks).toBe(2);
  });
});

describe('what is remembered', () => {
  it('is bounded', async () => {
    for (let i = 0; i <= 10_000; i++) {
      const record = session(`s${i}`, `k${i}`);
      await running.learn(`demo-${i}`, actor, async () => record as never);
    }
    expect(running.recall('demo-0', actor)).toBeUndefined();
    expect(running.recall('demo-10000', actor)).toMatchObject({ kernelId: 'k10000' });
  });
});
