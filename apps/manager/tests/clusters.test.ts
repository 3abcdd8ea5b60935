import { createPublicKey } from 'node:crypto';
import type { KernelSpec } from '@backend.ai/contract';
import { newId } from '@backend.ai/core';
import { runWithRequest } from '@backend.ai/telemetry';
import { waitFor } from '@backend.ai/testing';
import { sql } from 'drizzle-orm';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { FakeAgent } from './fake-agent.ts';
import { createWorld, type World } from './world.ts';

let world: World;
let agents: FakeAgent[];

beforeAll(async () => {
  world = await createWorld();
  agents = [await world.addAgent('i-one'), await world.addAgent('i-two')];
});
afterAll(() => world.close());
afterEach(async () => {
  for (const agent of agents) {
    agent.behaviour = 'start';
    agent.destroyBehaviour = 'end';
    agent.holdEvents = false;
    await agent.flush();
  }
  await inRequest(() => world.manager.services.endAllSessions('user-requested', 60_000));
  expect(await world.manager.services.verifyLedger()).toEqual([]);
});

const api = () => world.manager.services.api.session;
const inRequest = <T>(work: () => Promise<T>): Promise<T> => runWithRequest({ requestId: newId() }, work);
/** Three kernels that no single agent has room for. */
const create = () => world.create({ clusterMode: 'multi-node', clusterSize: 3, resources: { cpu: 2 } });
/** A job with its main kernel at the first agent and the other one at the second. */
const createJob = () =>
  world.create({
    ...{ type: 'batch', startupCommand: 'make', clusterMode: 'multi-node', clusterSize: 2, resources: { cpu: 3 } },
    designatedAgents: agents.map(({ id }) => id),
  });
const bothStarted = async (): Promise<[string, string]> => {
  await waitFor(() => agents.every((agent) => agent.kernels.size === 1), { what: 'both kernels' });
  return agents.map((agent) => [...agent.kernels.keys()][0]!) as [string, string];
};
const statusesOf = async (session: string) =>
  (await api().get({ session }, world.ctx())).kernels.map(({ status }) => status);
const kernelsAtAgents = () => agents.flatMap((agent) => [...agent.kernels.keys()]);

describe('a session over several agents', () => {
  it('runs when all its kernels do, and ends with all of them', async () => {
    const { id } = await create();
    const { kernels } = await world.until(id, 'RUNNING');
    expect(kernels.map(({ role, index, status }) => [role, index, status])).toEqual([
      ['main', 1, 'RUNNING'],
      ['sub', 1, 'RUNNING'],
      ['sub', 2, 'RUNNING'],
    ]);
    expect(new Set(kernels.map(({ agent }) => agent))).toEqual(new Set(['i-one', 'i-two']));
    expect(kernelsAtAgents().sort()).toEqual(kernels.map((kernel) => kernel.id).sort());
    await inRequest(() => api().destroy({ session: id, forced: false }, world.ctx()));
    await world.until(id, 'TERMINATED');
    expect(kernelsAtAgents()).toEqual([]);
  });

  it('has its job begun when all its kernels run, and not before', async () => {
    agents[1]!.behaviour = 'stall';
    const { id } = await createJob();
    const [main, late] = await bothStarted();
    await waitFor(async () => (await statusesOf(id)).includes('RUNNING'), {
      what: 'the main kernel',
    });
    await agents[0]!.heartbeat();
    await world.manager.services.settle();
    expect(agents[0]!.begun).not.toContain(main);
    agents[1]!.finishStart(late);
    await world.until(id, 'RUNNING');
    await waitFor(() => agents[0]!.begun.includes(main), { what: 'the order to begin' });
  });

  it('has its job begun by what heartbeats tell when the order was lost', async () => {
    agents[0]!.losesBegins = true;
    const { id } = await createJob();
    await world.until(id, 'RUNNING');
    agents[0]!.losesBegins = false;
    const [main] = await bothStarted();
    await waitFor(() => agents[0]!.begun.includes(main), { what: 'the order to begin' });
    agents[0]!.finishBatch(main, 'success');
    expect(await world.until(id, 'TERMINATED')).toMatchObject({ result: 'success' });
  });

  it('starts as a whole or not at all when an agent refuses its part', async () => {
    agents[1]!.behaviour = 'refuse';
    const { id } = await create();
    await waitFor(async () => (await api().get({ session: id }, world.ctx())).reason.code === 'agent-refused', {
      what: 'the refusal',
    });
    expect(await world.manager.services.verifyLedger()).toEqual([]);
    agents[1]!.behaviour = 'start';
    const { kernels } = await world.until(id, 'RUNNING');
    // What the other agent had started of the attempt that was given up is gone.
    await waitFor(() => kernelsAtAgents().length === 3, { what: 'only kernels of this attempt' });
    expect(kernelsAtAgents().sort()).toEqual(kernels.map((kernel) => kernel.id).sort());
  });

  it('ends when one of its kernels does, and says so', async () => {
    const { id } = await create();
    const { kernels } = await world.until(id, 'RUNNING');
    const sub = kernels.find(({ role }) => role === 'sub')!;
    agents.find((agent) => agent.id === sub.agent)!.exit(sub.id, 3, 'out-of-memory');
    const ended = await world.until(id, 'TERMINATED');
    expect(ended.reason).toMatchObject({
      code: 'abnormal-termination',
      data: { reason: 'out-of-memory', exitCode: 3 },
    });
    expect(ended.kernels.find((kernel) => kernel.id === sub.id)?.exitCode).toBe(3);
    expect(kernelsAtAgents()).toEqual([]);
  });

  it('goes on without a sub kernel where that was wanted, and ends with the main one', async () => {
    const { id } = await world.create({ clusterMode: 'multi-node', clusterSize: 2, failurePolicy: 'tolerant' });
    const [main, sub] = (await world.until(id, 'RUNNING')).kernels;
    const exit = (kernel: typeof main): void =>
      agents.find((agent) => agent.id === kernel?.agent)?.exit(kernel?.id ?? '', 1);
    exit(sub);
    expect((await world.until(id, 'RUNNING_DEGRADED')).reason).toMatchObject({
      code: 'degraded',
      data: { kernel: 'sub1' },
    });
    const { logs } = await api().logs({ session: id }, world.ctx());
    expect(logs).toBe(agents[0]!.output);
    exit(main);
    await world.until(id, 'TERMINATED');
  });

  it('is given back to the queue whole when an agent is lost before all of it runs', async () => {
    agents[1]!.behaviour = 'stall';
    const { id } = await create();
    await world.until(id, 'PREPARING');
    await waitFor(() => agents[1]!.kernels.size > 0, { what: 'the part of the other agent' });
    const before = (await api().get({ session: id }, world.ctx())).kernels.map((kernel) => kernel.id);
    await agents[1]!.stop({ loseKernels: true });
    await world.forgetHeartbeats('i-two');
    await world.until(id, 'PENDING');
    agents[1]!.behaviour = 'start';
    await agents[1]!.start();
    const after = await world.until(id, 'RUNNING');
    expect(after.kernels.filter((kernel) => before.includes(kernel.id))).toEqual([]);
    await waitFor(() => kernelsAtAgents().length === 3, { what: 'only kernels of this attempt' });
  });

  it('ends by force at once, and its kernels at the agents afterwards, also under another manager', async () => {
    const { id } = await create();
    await world.until(id, 'RUNNING');
    for (const agent of agents) agent.destroyBehaviour = 'ignore';
    expect((await inRequest(() => api().destroy({ session: id, forced: true }, world.ctx()))).status).toBe(
      'TERMINATED',
    );
    expect(await world.manager.services.verifyLedger()).toEqual([]);
    await world.restartManager();
    await waitFor(() => kernelsAtAgents().length === 0, { what: 'agents without kernels' });
    await expect(inRequest(() => api().destroy({ session: id, forced: false }, world.ctx()))).rejects.toMatchObject({
      code: 'session-not-found',
    });
    expect((await api().get({ session: id }, world.ctx())).status).toBe('TERMINATED');
  });

  it('has one key pair for all its kernels, which is stored under the installation key and gone with the session', async () => {
    const { id } = await create();
    await world.until(id, 'RUNNING');
    const pairs = (): Array<KernelSpec['sshKeyPair']> =>
      agents.flatMap((agent) => [...agent.kernels.values()].map(({ spec }) => spec.sshKeyPair));
    const [pair] = pairs();
    expect(pairs()).toEqual([pair, pair, pair]);
    const { n, e } = createPublicKey(pair!.privateKey).export({ format: 'jwk' });
    const [type, blob = ''] = pair!.publicKey.split(' ');
    const bytes = Buffer.from(blob, 'base64');
    expect([type, bytes.subarray(4, 11).toString()]).toEqual(['ssh-rsa', 'ssh-rsa']);
    // Length, exponent, length, and a zero before the modulus, whose highest bit is set.
    expect(bytes.subarray(11)).toEqual(
      Buffer.concat([
        Buffer.of(0, 0, 0, 3),
        Buffer.from(e!, 'base64url'),
        Buffer.of(0, 0, 1, 1, 0),
        Buffer.from(n!, 'base64url'),
      ]),
    );

    const stored = () =>
      world.database.db.execute<{ pair: string }>(
        sql`select row_to_json(k)::text as pair from session_key_pairs k where session_id = ${id}::uuid`,
      );
    expect((await stored())[0]!.pair).not.toContain('PRIVATE KEY');
    expect(JSON.stringify(await api().get({ session: id }, world.ctx()))).not.toContain('ssh-rsa');
    const before = new Set(kernelsAtAgents());
    await inRequest(() => api().restart({ session: id }, world.ctx()));
    await waitFor(() => kernelsAtAgents().filter((kernel) => !before.has(kernel)).length === 3, {
      what: 'the next attempt',
    });
    await world.until(id, 'RUNNING');
    expect(pairs()).toEqual([pair, pair, pair]);
    await inRequest(() => api().destroy({ session: id, forced: false }, world.ctx()));
    await waitFor(async () => (await stored()).length === 0, { what: 'the key pair gone' });
  });

  it('starts anew whole', async () => {
    const { id } = await create();
    const before = await world.until(id, 'RUNNING');
    await inRequest(() => api().restart({ session: id }, world.ctx()));
    await waitFor(
      async () => (await api().get({ session: id }, world.ctx())).kernels[0]!.id !== before.kernels[0]!.id,
      {
        what: 'the next attempt',
      },
    );
    await world.until(id, 'RUNNING');
  });
});
