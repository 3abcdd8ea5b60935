import type { KernelMeasurement } from '@backend.ai/contract';
import { waitFor } from '@backend.ai/testing';
import { sql } from 'drizzle-orm';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { FakeAgent } from './fake-agent.ts';
import { createWorld, type World } from './world.ts';

const measurement = (kernelId: string, more: Partial<KernelMeasurement> = {}): KernelMeasurement => ({
  ...{ kernelId, ageMs: 0, cpuMs: 1_000, cpuPercent: 50, memoryBytes: 10_000_000, memoryPeakBytes: 20_000_000 },
  ...more,
});

describe('what is known of running sessions', () => {
  let world: World;
  let agent: FakeAgent;

  beforeAll(async () => {
    world = await createWorld();
    agent = await world.addAgent('agent-1', { slots: { cpu: '8', mem: String(8 * 1024 ** 3) } });
  });
  afterAll(() => world.close());
  beforeEach(async () => {
    for (const { key } of await world.configStore.list('config/idle/')) await world.configStore.delete(key);
    await world.manager.services.settle();
  });

  const api = () => world.manager.services.api.session;
  const run = async (name: string) => {
    const { id } = await world.create({ name, resources: { cpu: '1', mem: '1g' } });
    return await world.until(id, 'RUNNING');
  };
  const settings = async (entries: Record<string, string>) => {
    for (const [name, value] of Object.entries(entries)) await world.configStore.put(`config/idle/${name}`, value);
    await world.manager.services.settle();
  };
  const policy = (columns: string) =>
    world.database.db.execute(sql.raw(`update keypair_resource_policies set ${columns} where name = 'default'`));

  /** Over the whole window, which is judged. */
  const usesNothing = async (kernelId: string) => {
    await settings({
      enabled: 'utilization',
      'checkers/utilization/time-window': '1m',
      'checkers/utilization/initial-grace-period': '0',
      'checkers/utilization/resource-thresholds/cpu_util/average': '10',
    });
    const series = [60_000, 45_000, 30_000, 15_000, 0].map((ago) => ({
      atMs: Date.now() - ago,
      cpuMs: 5_000,
      memoryBytes: 1,
    }));
    const use = { atMs: Date.now(), cpuMs: 5_000, cpuPercent: 0, memoryBytes: 1, memoryPeakBytes: 1, series };
    agent.measurements = undefined;
    await world.liveValues().set(`kernel:${kernelId}:statistics`, JSON.stringify(use), 60_000);
  };

  it('statistics of a kernel are shown while it runs, and what it had used when it has ended', async () => {
    const { id, kernels } = await run('measured');
    const kernelId = kernels[0]!.id;
    const stats = async () => (await api().stats({ session: id }, world.ctx())).kernels[0]!;
    expect(await stats()).toMatchObject({ kernelId, measuredAt: null, cpu: { percent: null, capacityPercent: 100 } });
    agent.measurements = [measurement(kernelId)];
    const shown = await waitFor(async () => {
      const now = await stats();
      return now.measuredAt !== null && now;
    });
    expect(shown).toMatchObject({
      cpu: { usedMs: 1_000, percent: 50, capacityPercent: 100 },
      memory: { bytes: 10_000_000, peakBytes: 20_000_000, capacityBytes: 1024 ** 3 },
    });
    agent.measurements = [];
    agent.exit(kernelId);
    await world.until(id, 'TERMINATED');
    await waitFor(async () => (await stats()).cpu.usedMs === 1_000, { what: 'its last use' });
    await waitFor(async () => (await world.liveValues().get(`kernel:${kernelId}:statistics`)) === null);
  });

  it('a session is inspected with its details, what it uses and how it is judged, also when it has ended', async () => {
    const { id, name } = await run('inspected');
    const inspected = () => api().inspect({ session: name }, world.ctx());
    const running = await inspected();
    expect(running.session).toEqual(await api().get({ session: id }, world.ctx()));
    expect(running.statistics).toEqual(await api().stats({ session: id }, world.ctx()));
    expect(running.statistics).toMatchObject({ sessionId: id, name, kernels: [{ role: 'main', measuredAt: null }] });
    expect(running.idle).toEqual(await api().idle({ session: id }, world.ctx()));
    expect(running.idle?.checks.map(({ checker }) => checker)).toContain('network_timeout');
    await api().destroy({ session: id, forced: false }, world.ctx());
    await world.until(id, 'TERMINATED');
    expect(await inspected()).toMatchObject({ session: { status: 'TERMINATED' }, idle: null });
    await expect(api().idle({ session: id }, world.ctx())).rejects.toMatchObject({ code: 'session-not-running' });
    await expect(api().inspect({ session: 'nobody' }, world.ctx())).rejects.toMatchObject({
      code: 'session-not-found',
    });
  });

  it('what an ended kernel had used in all is told by its agent with its end, and stays', async () => {
    const { id, kernels } = await run('short');
    const kernelId = kernels[0]!.id;
    const cpu = {
      unit: 'msec',
      current: 7_500,
      capacity: null,
      min: 0,
      max: 7_500,
      sum: 7_500,
      avg: 1,
      diff: 1,
      rate: 1,
    };
    agent.measurements = [];
    agent.lastMetrics.set(kernelId, { cpu_used: cpu });
    agent.exit(kernelId);
    await world.until(id, 'TERMINATED');
    const [kernel] = (await api().stats({ session: id }, world.ctx())).kernels;
    expect(kernel).toMatchObject({ cpu: { usedMs: 7_500 }, metrics: { cpu_used: cpu }, series: [] });
    expect(kernel?.measuredAt).not.toBeNull();
  });

  it('what machines use is shown with their agents, by every manager', async () => {
    const mem = { unit: 'bytes', current: 5, capacity: 9, min: 5, max: 5, sum: 5, avg: 5, diff: 0, rate: 0 };
    const machine = async () =>
      (await world.manager.services.api.cluster.status(world.ctx())).agents.find((each) => each.id === 'agent-1')
        ?.machine;
    expect(await machine()).toBeNull();
    agent.machine = { mem };
    await waitFor(async () => (await machine()) !== null, { what: 'what the machine uses' });
    expect(await machine()).toEqual({ mem });
    agent.machine = undefined;
  });

  it('an agent tells nothing about kernels that it does not have', async () => {
    const { kernels } = await run('mine');
    const other = await world.addAgent('agent-2');
    other.measurements = [measurement(kernels[0]!.id)];
    await other.heartbeat();
    await other.heartbeat();
    expect(await world.liveValues().get(`kernel:${kernels[0]!.id}:statistics`)).toBeNull();
    await other.stop();
  });

  it('a session that nobody uses ends, one that is used goes on', async () => {
    const [unused, used] = [await run('unused'), await run('used')];
    const long = String(Date.now() - 2 * 3_600_000);
    await world.database.db.execute(
      sql`update sessions set started_at = now() - interval '3 hours' where status = 'RUNNING'`,
    );
    for (const { id } of [unused, used]) await world.liveValues().set(`session:${id}:last-access`, long);
    await api().interrupt({ session: used.id }, world.ctx());
    await waitFor(async () => (await world.liveValues().get(`session:${used.id}:last-access`)) !== long);
    await settings({ enabled: 'network_timeout', 'checkers/network_timeout/threshold': '1h' });
    const ended = await world.until(unused.id, 'TERMINATED');
    expect(ended.reason).toMatchObject({ code: 'idle-timeout', data: { checker: 'network_timeout' } });
    expect((await api().get({ session: used.id }, world.ctx())).status).toBe('RUNNING');
    const { checks } = await api().idle({ session: used.id }, world.ctx());
    expect(checks.find(({ checker }) => checker === 'network_timeout')).toMatchObject({ verdict: 'active' });
  });

  it('a session that is older than its policy allows ends without any setting', async () => {
    const { id } = await run('aged');
    try {
      await policy('max_session_lifetime = 86400');
      const dry = await api().idle({ session: id }, world.ctx());
      expect(dry.checks.find(({ checker }) => checker === 'session_lifetime')).toMatchObject({
        verdict: 'active',
        remainingKind: 'expire_after',
      });
      await world.database.db.execute(
        sql`update sessions set created_at = now() - interval '2 days' where id = ${id}::uuid`,
      );
      expect((await world.until(id, 'TERMINATED')).reason.code).toBe('idle-session-lifetime');
    } finally {
      await policy('max_session_lifetime = 0');
    }
  });

  it('a policy may say never', async () => {
    const { id } = await run('kept');
    try {
      await policy('idle_timeout = 0');
      await settings({ enabled: 'network_timeout', 'checkers/network_timeout/threshold': '1s' });
      const { checks } = await api().idle({ session: id }, world.ctx());
      expect(checks.find(({ checker }) => checker === 'network_timeout')?.verdict).toBe('excluded');
    } finally {
      await policy('idle_timeout = null');
    }
  });

  it('asking changes nothing, and only running sessions can be asked about', async () => {
    const { id } = await run('asked');
    const history = await api().history({ session: id }, world.ctx());
    const checks = (await api().idle({ session: id }, world.ctx())).checks;
    expect(checks.map(({ checker, verdict }) => [checker, verdict])).toEqual([
      ['network_timeout', 'excluded'],
      ['session_lifetime', 'excluded'],
      ['utilization', 'excluded'],
    ]);
    expect(await api().history({ session: id }, world.ctx())).toEqual(history);
    await api().destroy({ session: id, forced: true }, world.ctx());
    await expect(api().idle({ session: id }, world.ctx())).rejects.toMatchObject({ code: 'session-not-running' });
  });

  it('a session that goes on without a sub kernel is judged by what still runs', async () => {
    const resources = { cpu: '1', mem: '64m' };
    const { id } = await world.create({ name: 'degraded', clusterSize: 2, failurePolicy: 'tolerant', resources });
    const [main, sub] = (await world.until(id, 'RUNNING')).kernels;
    agent.exit(sub!.id, 1);
    await world.until(id, 'RUNNING_DEGRADED');
    await usesNothing(main!.id);
    expect((await world.until(id, 'TERMINATED')).reason.code).toBe('idle-utilization');
  });

  it('a session that uses too little over the whole window ends with what was found', async () => {
    const { id, kernels } = await run('lazy');
    await usesNothing(kernels[0]!.id);
    const ended = await world.until(id, 'TERMINATED');
    expect(ended.reason).toMatchObject({
      code: 'idle-utilization',
      data: { evidence: { metrics: { cpu_util: { average: 0, threshold: 10, isBelow: true } } } },
    });
  });
});
