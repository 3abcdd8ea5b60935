import { type UsageReportInput, usageReportSchema } from '@backend.ai/contract';
import { newId, parseResourceSlots } from '@backend.ai/core';
import { silentLogger } from '@backend.ai/telemetry';
import { waitFor } from '@backend.ai/testing';
import { sql } from 'drizzle-orm';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { RetentionRepository } from '../src/repositories/retention.ts';
import { UsageRepository } from '../src/repositories/usage.ts';
import { RetentionService } from '../src/services/retention/retention-service.ts';
import type { FakeAgent } from './fake-agent.ts';
import { createWorld, type World } from './world.ts';

const begin = Date.UTC(2025, 0, 30);
const hour = 3_600_000;
const iso = (ms: number): string => new Date(ms).toISOString();

describe('usage', () => {
  let world: World;
  let agent: FakeAgent;

  beforeAll(async () => {
    world = await createWorld();
    agent = await world.addAgent('agent-1', { slots: { cpu: '8', mem: String(8 * 1024 ** 3) } });
  });
  afterAll(() => world.close());

  const report = async (input: Partial<UsageReportInput> & { from: string }, actor = world.admin) =>
    (await world.manager.services.api.usage.report(usageReportSchema.parse(input), { ...world.ctx(), actor })).rows;
  const record = async (beganMs: number, endedMs: number, slots: Record<string, string>, more: Partial<Owner> = {}) => {
    const { sessionId = newId(), userId = world.admin.userId, domain = 'default' } = more;
    await world.database.db.execute(sql`
      insert into usage_records (id, session_id, session_name, kernel_id, domain_name, project_id, user_id, access_key,
        resource_group, agent_id, slots, began_at, ended_at)
      values (gen_random_uuid(), ${sessionId}::uuid, 's', gen_random_uuid(), ${domain}, gen_random_uuid(),
        ${userId}::uuid, 'k', 'default', 'a', ${JSON.stringify(slots)}::jsonb, ${iso(beganMs)}, ${iso(endedMs)})`);
  };
  interface Owner {
    readonly sessionId: string;
    readonly userId: string;
    readonly domain: string;
  }
  const forget = () => world.database.db.execute(sql`delete from usage_records`);

  it('is recorded when a session gives back what it held, and outlives the session', async () => {
    const { id } = await world.create({ resources: { cpu: '2', mem: '1g' } });
    const { kernels } = await world.until(id, 'RUNNING');
    await world.database.db.execute(
      sql`update resource_allocations set allocated_at = now() - interval '1 hour' where kernel_id = ${kernels[0]!.id}::uuid`,
    );
    const from = iso(Date.now() - 24 * hour);
    const running = (await report({ from, to: iso(Date.now() + hour), by: 'session' })).find((row) => row.id === id)!;
    expect(Number(running.used.cpu)).toBeGreaterThanOrEqual(7_200);
    agent.exit(kernels[0]!.id);
    await world.until(id, 'TERMINATED');
    const ended = (await report({ from, to: iso(Date.now() + hour), by: 'session' })).find((row) => row.id === id)!;
    expect(Number(ended.used.cpu)).toBeGreaterThanOrEqual(Number(running.used.cpu));
    expect(Number(ended.used.mem)).toBeCloseTo((Number(ended.used.cpu) / 2) * 1024 ** 3, -3);
    const [held] = await world.database.db.execute<{ cpu: number }>(sql`
      select (2 * extract(epoch from ended_at - began_at))::float8 as cpu from usage_records where session_id = ${id}::uuid`);
    expect(Number(ended.used.cpu)).toBeCloseTo(held!.cpu, 6);
    await world.database.db.execute(sql`delete from sessions where id = ${id}::uuid`);
    const after = await report({ from, to: iso(Date.now() + hour), by: 'session' });
    expect(after.find((row) => row.id === id)).toEqual(ended);
  });

  it('is told kernel by kernel, with what was measured, also of sessions that are gone', async () => {
    const { id } = await world.create({ name: 'told', resources: { cpu: '2', mem: '1g' } });
    const { kernels, projectId } = await world.until(id, 'RUNNING');
    const kernelId = kernels[0]!.id;
    const span = { from: iso(Date.now() - 24 * hour), to: iso(Date.now() + hour) };
    const told = async (projects: string[], of = span) =>
      await world.manager.services.api.usage.projects({ ...of, projects }, world.ctx());
    const kernel = async () => (await told([projectId]))[0]?.kernels.find((each) => each.kernelId === kernelId);
    const held = { sessionId: id, sessionName: 'told', email: world.admin.email, agent: 'agent-1' };
    expect(await kernel()).toMatchObject({
      ...{ ...held, status: 'RUNNING', endedAt: null, slots: { cpu: '2', mem: String(1024 ** 3) } },
      history: { PENDING: expect.any(String), RUNNING: expect.any(String) },
    });
    const metric = { unit: 'msec', current: 7, max: 7, min: 7, avg: 7, sum: 7, diff: 0, rate: 0, capacity: null };
    agent.exit(kernelId);
    await world.until(id, 'TERMINATED');
    await world.database.db.execute(sql`
      update kernels set status_data = status_data || ${JSON.stringify({ statistics: { metrics: { cpu_used: metric } } })}::jsonb
      where id = ${kernelId}::uuid`);
    expect(await kernel()).toMatchObject({
      ...{ ...held, status: 'TERMINATED', endedAt: expect.any(String), metrics: { cpu_used: { current: 7 } } },
    });
    expect(await told([newId()])).toEqual([]);
    expect(await told([], { from: iso(begin), to: iso(begin + hour) })).toEqual([]);
    await world.database.db.execute(sql`delete from sessions where id = ${id}::uuid`);
    expect(await kernel()).toMatchObject({ ...held, image: null, reason: null, history: {}, metrics: {} });
  });

  it('has what was measured, from the end of a kernel on, in each period as much as its part of the time', async () => {
    const { id } = await world.create({ resources: { cpu: '2', mem: '1g' } });
    const { kernels } = await world.until(id, 'RUNNING');
    const kernelId = kernels[0]!.id;
    const metric = (current: number, more: object = {}) => ({
      ...{
        unit: 'bytes',
        current,
        capacity: null,
        min: 0,
        max: current,
        sum: 0,
        avg: current,
        diff: 0,
        rate: 0,
        ...more,
      },
    });
    const metrics = { cpu_used: metric(1_800_000), mem: metric(0, { max: 4_096 }), io_write: metric(100) };
    const known = { atMs: Date.now(), cpuMs: null, cpuPercent: null, memoryBytes: null, memoryPeakBytes: 4_096 };
    const use = { ...known, metrics, busySeconds: { cuda: 3_600 }, series: [] };
    await world.liveValues().set(`kernel:${kernelId}:statistics`, JSON.stringify(use), 600_000);
    agent.exit(kernelId);
    await world.until(id, 'TERMINATED');
    // As if it had run from half past twelve to half past two.
    const noon = Date.UTC(2025, 2, 1, 12);
    await world.database.db.execute(sql`update usage_records set began_at = ${iso(noon + hour / 2)},
      ended_at = ${iso(noon + 2.5 * hour)} where session_id = ${id}::uuid`);
    const asked = { from: iso(noon), to: iso(noon + 3 * hour), by: 'session' } as const;
    const [whole] = await report(asked);
    expect(whole?.measured).toEqual({
      cpuSeconds: 1_800,
      writtenBytes: 100,
      cudaSeconds: 3_600,
      memoryPeakBytes: 4_096,
    });
    const hours = await report({ ...asked, period: 'hour' });
    expect(hours.map(({ measured }) => measured?.cpuSeconds)).toEqual([450, 900, 450]);
    expect(hours.map(({ measured }) => measured?.cudaSeconds)).toEqual([900, 1_800, 900]);
    const [cut] = await report({ ...asked, from: iso(noon + 2 * hour) });
    expect(cut?.measured).toMatchObject({ cpuSeconds: 450, memoryPeakBytes: 4_096 });
    await forget();
  });

  it('counts each attempt to start a session, and none that never got anything', async () => {
    agent.behaviour = 'refuse';
    const { id } = await world.create();
    const records = async () =>
      (await world.database.db.execute(sql`select 1 from usage_records where session_id = ${id}::uuid`)).length;
    await waitFor(async () => (await records()) >= 2, { what: 'two refused attempts' });
    agent.behaviour = 'start';
    await world.until(id, 'RUNNING');
    const before = await records();
    const waiting = await world.create({ resources: { cpu: '8', mem: '64m' } });
    await world.manager.services.api.session.destroy({ session: waiting.id, forced: false }, world.ctx());
    await world.manager.services.api.session.destroy({ session: id, forced: true }, world.ctx());
    expect(await records()).toBe(before + 1);
    const [none] = await world.database.db.execute(
      sql`select 1 from usage_records where session_id = ${waiting.id}::uuid`,
    );
    expect(none).toBeUndefined();
  });

  it('does not count kernels that run at the same time twice', async () => {
    await forget();
    const sessionId = newId();
    for (let kernel = 0; kernel < 3; kernel++) await record(begin, begin + hour, { cpu: '1' }, { sessionId });
    const [row] = await report({ from: iso(begin), to: iso(begin + 24 * hour) });
    expect(row).toMatchObject({ sessions: 1, used: { cpu: String(3 * 3_600) } });
  });

  it('of periods that follow each other is the usage of the whole, to the last digit', async () => {
    const spans = fc.array(
      fc.record({
        start: fc.integer({ min: -2 * 24 * hour, max: 60 * 24 * hour }),
        length: fc.integer({ min: 0, max: 40 * 24 * hour }),
        milli: fc.integer({ min: 1, max: 9_999 }),
      }),
      { minLength: 1, maxLength: 6 },
    );
    const whole = { from: iso(begin), to: iso(begin + 59 * 24 * hour + 1_234) };
    const milliSeconds = (rows: Array<{ used: Record<string, string> }>): bigint =>
      rows.reduce((sum, { used }) => sum + exact(used.cpu ?? '0'), 0n);
    await fc.assert(
      fc.asyncProperty(spans, fc.constantFrom('day' as const, 'month' as const), async (held, period) => {
        await forget();
        for (const { start, length, milli } of held) {
          await record(begin + start, begin + start + length, { cpu: (milli / 1_000).toFixed(3) });
        }
        const once = milliSeconds(await report(whole));
        expect(milliSeconds(await report({ ...whole, period }))).toBe(once);
        const cut = iso(begin + 17 * 24 * hour + 4_321);
        const parts = [await report({ ...whole, to: cut }), await report({ ...whole, from: cut })];
        expect(milliSeconds(parts.flat())).toBe(once);
        for (const by of ['session', 'project', 'domain'] as const) {
          expect(milliSeconds(await report({ ...whole, by }))).toBe(once);
        }
      }),
      { numRuns: 15 },
    );
  });

  it('shows users their own, admins of a domain that of the domain', async () => {
    await forget();
    const [mine, other] = [newId(), newId()];
    await record(begin, begin + hour, { cpu: '1' }, { userId: mine });
    await record(begin, begin + hour, { cpu: '2' }, { userId: other, domain: 'elsewhere' });
    const asks = async (role: 'user' | 'admin') =>
      (await report({ from: iso(begin), to: iso(begin + hour) }, { ...world.admin, userId: mine, role })).map(
        ({ id }) => id,
      );
    expect(await asks('user')).toEqual([mine]);
    expect(await asks('admin')).toEqual([mine]);
    const all = await report({ from: iso(begin), to: iso(begin + hour), by: 'domain' });
    expect(all.map(({ name, used }) => [name, used.cpu])).toEqual([
      ['default', '3600'],
      ['elsewhere', '7200'],
    ]);
  });

  it('is kept as long as history is', async () => {
    await forget();
    const now = Date.now();
    await record(now - 48 * hour, now - 30 * hour, { cpu: '1' });
    await record(now - 48 * hour, now - 20 * hour, { cpu: '1' });
    const retention = new RetentionService(new RetentionRepository(world.database.db), silentLogger);
    const olderThanMs = 24 * hour;
    const found = await retention.clearHistory({ olderThanMs, dryRun: true });
    expect(await retention.clearHistory({ olderThanMs, dryRun: false })).toEqual({ ...found, dryRun: false });
    const [row] = await report({ from: iso(now - 48 * hour), to: iso(now) });
    expect(row?.used.cpu).toBe(String(28 * 3_600));
  });

  it('refuses a time that ends before it begins', async () => {
    await expect(report({ from: iso(begin), to: iso(begin) })).rejects.toMatchObject({ code: 'invalid-input' });
  });

  it('counts the rows of a report, and not the time that it looks back', async () => {
    await forget();
    await record(begin, begin + 2 * hour, { cpu: '1' });
    for (const from of ['0001-01-01T00:00:00Z', iso(begin - 43_800 * hour)]) {
      const rows = await report({ from, to: iso(begin + hour), period: 'hour' });
      expect(rows.map(({ period, used }) => [period, used.cpu])).toEqual([[iso(begin), '3600']]);
    }
    await record(begin - 10_001 * hour, begin, { cpu: '1' });
    await expect(report({ from: '0001-01-01T00:00:00Z', to: iso(begin), period: 'hour' })).rejects.toMatchObject({
      code: 'invalid-input',
      data: { fields: { period: expect.any(String) } },
    });
    expect(await report({ from: '0001-01-01T00:00:00Z', to: iso(begin), period: 'day' })).toHaveLength(417);
  });

  it('of somebody whom the asker does not know is refused, and of one who used nothing is empty', async () => {
    await forget();
    const span = { from: iso(begin), to: iso(begin + hour) };
    expect(await report({ ...span, user: world.admin.email.toUpperCase() })).toEqual([]);
    for (const [filter, name] of [
      ['user', 'nobody@example.com'],
      ['project', 'nothing'],
      ['domain', 'nowhere'],
    ] as const) {
      await expect(report({ ...span, [filter]: name })).rejects.toMatchObject({
        code: 'object-not-found',
        message: `There is no ${filter} "${name}".`,
      });
    }
  });

  it('is told day by day back from now to whoever lets it decay', async () => {
    await forget();
    const userId = newId();
    const now = Date.now();
    await record(now - 36 * hour, now - 12 * hour, { cpu: '1' }, { userId });
    const days = (await new UsageRepository(world.database.db).dailyUsage(28)).filter(({ id }) => id === userId);
    expect(days.map(({ scope, daysAgo }) => [scope, daysAgo])).toEqual([
      ['user', 0],
      ['user', 1],
    ]);
    const seconds = days.map(({ used }) => Number(parseResourceSlots(used).cpu) / 1_000);
    expect(seconds.reduce((sum, each) => sum + each)).toBeCloseTo(24 * 3_600, 2);
    expect(seconds[0]! / 3_600).toBeCloseTo(12, 1);
  });
});

/** Millionths, so that sums can be compared exactly. */
function exact(text: string): bigint {
  const [whole = '0', fraction = ''] = text.split('.');
  expect(fraction.length).toBeLessThanOrEqual(12);
  return BigInt(whole + fraction.padEnd(12, '0'));
}
