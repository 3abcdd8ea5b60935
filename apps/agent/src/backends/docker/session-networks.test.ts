import { type EgressPolicy, openEgress } from '@backend.ai/contract';
import { AppError, deferred, formatSubnet, nextTurn, parseSubnet } from '@backend.ai/core';
import { silentLogger as logger } from '@backend.ai/telemetry';
import { FakeClock, waitFor } from '@backend.ai/testing';
import { expect, it } from 'vitest';
import type { Firewall } from './firewall.ts';
import type { GuardedNetwork } from './firewall-rules.ts';
import { networkName } from './labels.ts';
import { SessionNetworks, type SessionNetworksOptions } from './session-networks.ts';
import { mostSpares } from './spare-networks.ts';
import type { NetworkInfo } from './taken-subnets.ts';

type Engine = SessionNetworksOptions['engine'];

const owner = { installationId: 'i1', agentId: 'a1' };
const noCalls: EgressPolicy = { policy: 'none' };
const { signal } = new AbortController();

interface WorldOptions {
  readonly spares?: number;
  readonly pool?: string;
  readonly present?: Map<string, NetworkInfo>;
  readonly engine?: Partial<Engine>;
  readonly firewall?: Partial<Firewall>;
}

/** An engine that remembers, and what the firewall was last told to see to. */
function world({
  spares = 0,
  pool = '198.18.0.0/16',
  present = new Map(),
  engine: more = {},
  firewall: other,
}: WorldOptions = {}) {
  const clock = new FakeClock();
  let made = 0;
  const engine: Engine = {
    listNetworks: async () => [...present.values()],
    inspectNetwork: async (id) => [...present.values()].find(({ Id, Name }) => id === Id || id === Name) ?? null,
    createNetwork: async ({ Name, IPAM }) => {
      const Id = `id-${made++}-of-this-world`;
      present.set(Id, { Id, Name, IPAM, Created: '2026-01-01T00:00:00Z' } as NetworkInfo);
    },
    removeNetwork: async (id) => void present.delete(id),
    ...more,
  };
  const ensured: Array<readonly GuardedNetwork[]> = [];
  const added: Array<readonly GuardedNetwork[]> = [];
  let inForce: readonly GuardedNetwork[] = [];
  const released: string[] = [];
  const firewall = {
    ensure: async (networks: readonly GuardedNetwork[]) => {
      ensured.push(networks);
      inForce = networks;
    },
    add: async (networks: readonly GuardedNetwork[]) => {
      added.push(networks);
      inForce = [...inForce, ...networks];
    },
    release: async (bridge: string) => {
      released.push(bridge);
      inForce = inForce.filter((each) => each.bridge !== bridge);
    },
    ...other,
  };
  const options = { engine, owner, pool: parseSubnet(pool)!, prefix: 26, spares, firewall, clock, logger };
  const networks = new SessionNetworks(options);
  const join = (session: string, kernel = session, egress = openEgress) =>
    networks.join(session, kernel, egress, signal);
  return {
    ...{ networks, present, ensured, added, released, clock, join },
    names: () => [...present.values()].map(({ Name }) => Name),
    /** By range: whose policy is in force. */
    rules: () => Object.fromEntries(inForce.map((each) => [formatSubnet(each.subnet), each.egress])),
    /** Until so many are ready, with as much time as it takes. */
    until: async (ready: number) => {
      await waitFor(async () => {
        await clock.advance(250);
        return present.size === ready && inForce.length === ready;
      });
    },
  };
}

it('is made for the first kernel of its session and removed with the last one, where none is kept', async () => {
  const w = world();
  await w.join('s1', 'k1', noCalls);
  await w.join('s1', 'k2', noCalls);
  expect(w.names()).toEqual([w.networks.nameOf('s1')]);
  await w.networks.guard();
  expect(w.rules()).toEqual({ '198.18.0.0/26': noCalls });
  await expect(w.join('s1', 'k3', openEgress)).rejects.toMatchObject({ code: 'state-conflict' });
  await w.networks.leave('s1', 'k3');
  await w.networks.leave('s1', 'k1');
  expect(w.present.size).toBe(1);
  await w.networks.leave('s1', 'k2');
  await w.networks.leave('s1', 'k2');
  expect(w.present.size).toBe(0);
  expect(w.released).toEqual(['br-id-0-of-this']);
  await w.networks.guard();
  expect(w.rules()).toEqual({});
});

it('is made beside those of other sessions, each of which gets a range of its own', async () => {
  const present = new Map<string, NetworkInfo>();
  const ranges: string[] = [];
  const all = deferred();
  const w = world({
    present,
    engine: {
      createNetwork: async ({ Name, IPAM }) => {
        ranges.push(IPAM?.Config?.[0]?.Subnet ?? '');
        if (ranges.length === 3) all.resolve();
        await all.promise;
        present.set(`${Name}`, { Id: Name, Name, IPAM, Created: '2026-01-01T00:00:00Z' } as NetworkInfo);
      },
    },
  });
  await Promise.all(['s1', 's2', 's3'].map((session) => w.join(session)));
  expect(ranges.sort()).toEqual(['198.18.0.0/26', '198.18.0.128/26', '198.18.0.64/26']);
});

it('that nobody answered for when it was made goes by its name', async () => {
  const present = new Map<string, NetworkInfo>();
  const late = new AppError('engine-unavailable', 'late');
  const w = world({
    present,
    engine: {
      createNetwork: async ({ Name, IPAM }) => {
        present.set('late', { Id: 'late', Name, IPAM, Created: '2026-01-01T00:00:00Z' } as NetworkInfo);
        throw late;
      },
    },
  });
  await expect(w.join('s1')).rejects.toBe(late);
  expect(w.names()).toEqual([w.networks.nameOf('s1')]);
  await w.networks.leave('s1', 's1');
  expect(w.names()).toEqual([]);
});

it('is ready before its session comes, has the rules of that before anything runs in it, and is kept for the next', async () => {
  const w = world({ spares: 2 });
  w.networks.start();
  await w.until(2);
  expect(w.rules()).toEqual({ '198.18.0.0/26': openEgress, '198.18.0.64/26': openEgress });
  const ready = w.names();
  await w.join('s1', 'k1', noCalls);
  expect(ready).toContain(w.networks.nameOf('s1'));
  expect(w.names()).toEqual(ready);
  await w.networks.guard();
  expect(w.rules()).toEqual({ '198.18.0.0/26': noCalls, '198.18.0.64/26': openEgress });
  await w.networks.leave('s1', 'k1');
  expect(w.names()).toEqual(ready);
  await w.networks.guard();
  expect(w.rules()).toEqual({ '198.18.0.0/26': openEgress, '198.18.0.64/26': openEgress });
  // What was used longest ago comes first.
  await w.join('s2');
  expect(w.networks.nameOf('s2')).toBe(ready[1]);
  await w.networks.close();
});

it('is made meanwhile for one that was taken, once no session has come for a while; none is kept beyond those wanted', async () => {
  const w = world({ spares: 2 });
  w.networks.start();
  await w.until(2);
  await w.join('s1');
  await w.clock.advance(500);
  await w.join('s2');
  await w.clock.advance(900);
  expect(w.present.size).toBe(2);
  await w.until(4);
  await w.networks.leave('s1', 's1');
  expect(w.present.size).toBe(3);
  await w.networks.close();
  expect(w.names()).toEqual([w.networks.nameOf('s2')]);
  await w.networks.leave('s2', 's2');
  expect(w.names()).toEqual([]);
});

it('is not kept beyond those wanted while one is being made', async () => {
  const present = new Map<string, NetworkInfo>();
  const making = deferred<void>();
  const w = world({
    ...{ spares: 2, present },
    engine: {
      createNetwork: async ({ Name, IPAM }) => {
        const Id = `made-${present.size}`;
        if (present.size === 2) await making.promise;
        present.set(Id, { Id, Name, IPAM, Created: '2026-01-01T00:00:00Z' } as NetworkInfo);
      },
    },
  });
  w.networks.start();
  await w.until(2);
  await w.join('s1');
  await w.clock.advance(1_000);
  await w.networks.leave('s1', 's1');
  making.resolve();
  await w.until(2);
  await w.networks.close();
  expect(w.names()).toEqual([]);
});

it('is not one that somebody has removed, or put a container into', async () => {
  const w = world({ spares: 2 });
  w.networks.start();
  await w.until(2);
  const [[gone], [foreign, info]] = [...w.present] as [[string, NetworkInfo], [string, NetworkInfo]];
  w.present.delete(gone);
  w.present.set(foreign, { ...info, Containers: { theirs: {} } } as unknown as NetworkInfo);
  await w.join('s1');
  expect(w.names()).toEqual([info.Name, w.networks.nameOf('s1')]);
  expect(info.Name).not.toBe(w.networks.nameOf('s1'));
  expect(w.released).toEqual(['br-id-0-of-this']);
  expect((await w.networks.unused()).map(({ name }) => name)).toEqual([info.Name]);
  await w.networks.close();
});

it('is not taken twice by sessions that come at the same time', async () => {
  const w = world({ spares: 2 });
  w.networks.start();
  await w.until(2);
  const sessions = ['s1', 's2', 's3', 's4'];
  await Promise.all(sessions.map((session) => w.join(session)));
  expect(new Set(sessions.map((session) => w.networks.nameOf(session))).size).toBe(4);
  const subnets = [...w.present.values()].map(({ IPAM }) => IPAM?.Config?.[0]?.Subnet);
  expect(new Set(subnets).size).toBe(4);
  await w.networks.close();
});

it('goes on with its kernels under an agent that comes back, which keeps of the others as many as it wants', async () => {
  const present = new Map<string, NetworkInfo>();
  const first = world({ present });
  await first.join('s1', 'k1', noCalls);
  await first.join('unknown', 'k3', noCalls);
  const [, [inUse, info]] = [...present] as [unknown, [string, NetworkInfo]];
  // A container of it still runs: it keeps its rules.
  present.set(inUse, { ...info, Containers: { stray: {} } } as unknown as NetworkInfo);
  await first.join('s2');
  await first.join('s3');
  const second = world({ present, spares: 1 });
  second.networks.hold('s1', 'k1', noCalls, first.networks.nameOf('s1'));
  second.networks.hold('lost', 'k2', noCalls, networkName(owner.installationId, 'lost'));
  await second.networks.adopt();
  expect(second.networks.nameOf('s1')).toBe(first.networks.nameOf('s1'));
  expect(second.rules()).toEqual({ '198.18.0.0/26': noCalls, '198.18.0.128/26': openEgress });
  const strays = await second.networks.unused();
  expect(strays.map(({ name }) => name)).toEqual(['unknown', 's3'].map((each) => first.networks.nameOf(each)));
  // Which the sweep removes first.
  present.set(inUse, info);
  for (const { remove } of strays) await remove();
  await second.networks.leave('lost', 'k2');
  await second.networks.leave('s1', 'k1');
  expect(second.names()).toEqual([first.networks.nameOf('s2')]);
});

it.each([
  ['first', [null, 'in-use']],
  ['last', ['in-use', null]],
])(
  'is the one that a kernel of its session was in, when one that had come to none is found %s',
  async (_order, names) => {
    const { networks } = world();
    for (const [index, name] of names.entries()) networks.hold('s1', `k${index}`, noCalls, name);
    expect(networks.nameOf('s1')).toBe('in-use');
  },
);

it('that no kernel has is not removed, and keeps its rules, while a container is in it', async () => {
  const present = new Map<string, NetworkInfo>();
  const foreign = { Id: 'n', Name: 'n', Created: '2026-01-01T00:00:00Z', IPAM: {}, Containers: { c: {} } };
  present.set('n', foreign as unknown as NetworkInfo);
  const w = world({ present });
  const [stray] = await w.networks.unused();
  await expect(stray!.remove()).rejects.toMatchObject({ code: 'state-conflict' });
  expect([w.names(), w.released]).toEqual([['n'], []]);
  present.set('n', { ...present.get('n')!, Containers: {} });
  await stray!.remove();
  expect([w.names(), w.released]).toEqual([[], ['br-n']]);
});

it('that is made ahead is found again when the engine made it without an answer', async () => {
  const present = new Map<string, NetworkInfo>();
  let orders = 0;
  const w = world({
    spares: 1,
    present,
    engine: {
      createNetwork: async ({ Name, IPAM }) => {
        orders += 1;
        present.set('late', { Id: 'late', Name, IPAM, Created: '2026-01-01T00:00:00Z' } as NetworkInfo);
        throw new AppError('engine-unavailable', 'late');
      },
    },
  });
  w.networks.start();
  await waitFor(() => orders > 0);
  expect(await w.networks.unused()).toEqual([]);
  await w.until(1);
  expect(orders).toBe(1);
  await w.networks.close();
});

it('leaves ranges of a small pool to sessions, and those that are ready to them when none is left', async () => {
  expect([mostSpares(4, parseSubnet('10.99.0.0/16')!, 26), mostSpares(4, parseSubnet('10.99.0.0/21')!, 26)]).toEqual([
    4, 2,
  ]);
  expect(mostSpares(4, parseSubnet('10.99.0.0/24')!, 26)).toBe(0);
  const w = world({ spares: 4, pool: '198.18.0.0/22' });
  w.networks.start();
  await w.until(1);
  const sessions = Array.from({ length: 16 }, (_, index) => `s${index}`);
  for (const session of sessions) await w.join(session);
  await expect(w.join('one more')).rejects.toMatchObject({ code: 'insufficient-capacity' });
  expect(w.present.size).toBe(16);
  await w.networks.close();
});

it('has its rules in place with one call to the firewall for all who ask before it begins', async () => {
  const w = world();
  await w.join('s1');
  await w.networks.guard();
  await Promise.all([w.networks.guard(), w.networks.guard(), w.networks.guard()]);
  expect(w.ensured).toHaveLength(2);
});

it('asks the firewall at a start only where other rules than those in force are wanted, and every few seconds', async () => {
  const w = world({ spares: 1 });
  w.networks.start();
  await w.until(1);
  const asked = async (session: string, egress: EgressPolicy): Promise<boolean> => {
    const before = w.ensured.length;
    await w.join(session, session, egress);
    await w.networks.guardFor(session);
    return w.ensured.length > before;
  };
  expect(await asked('s1', openEgress)).toBe(false);
  await w.networks.leave('s1', 's1');
  expect(await asked('s2', noCalls)).toBe(true);
  expect(w.rules()).toEqual({ '198.18.0.0/26': noCalls });
  await w.networks.leave('s2', 's2');
  expect(await asked('s3', openEgress)).toBe(true);
  expect(w.rules()).toEqual({ '198.18.0.0/26': openEgress });
  await w.networks.close();
});

it('that is new gets its rules without a look at all others, with one call for all that are, and only once', async () => {
  const w = world();
  await Promise.all([w.join('s1', 's1', noCalls), w.join('s2')]);
  await Promise.all([w.networks.guardFor('s1'), w.networks.guardFor('s2')]);
  expect(w.rules()).toEqual({ '198.18.0.0/26': noCalls, '198.18.0.64/26': openEgress });
  await w.networks.guardFor('s1');
  expect([w.added.length, w.ensured.length]).toEqual([1, 0]);
  // One whose rules were looked at meanwhile is new no more.
  await w.join('s3');
  await w.networks.guard();
  await w.networks.guardFor('s3');
  expect([w.added.length, w.ensured.length]).toEqual([1, 1]);
});

it('whose rules may be there in part is looked at before anything runs in it', async () => {
  const failure = new AppError('isolation-unavailable', 'too late');
  const w = world({ firewall: { add: () => Promise.reject(failure) } });
  await w.join('s1', 's1', noCalls);
  await expect(w.networks.guardFor('s1')).rejects.toBe(failure);
  await w.networks.guardFor('s1');
  expect(w.ensured.map((networks) => networks.map(({ egress }) => egress))).toEqual([[noCalls]]);
});

it('has its rules looked at every five seconds', async () => {
  const w = world();
  w.networks.start();
  await waitFor(() => w.ensured.length === 1);
  await w.clock.advance(4_999);
  expect(w.ensured).toHaveLength(1);
  await w.clock.advance(1);
  await waitFor(() => w.ensured.length === 2);
  await w.networks.close();
});

it('is started in when its own rules are in force, also where others were on their way when it was joined', async () => {
  const gate = deferred();
  const ensured: Array<readonly GuardedNetwork[]> = [];
  let isHeld = false;
  const ensure = async (networks: readonly GuardedNetwork[]): Promise<void> => {
    ensured.push(networks);
    if (isHeld) await gate.promise;
  };
  const w = world({ spares: 1, firewall: { ensure } });
  w.networks.start();
  await w.until(1);
  await w.join('s1', 's1', noCalls);
  await w.networks.guardFor('s1');
  // It is a spare one now, for which rules that forbid nothing are put in place.
  await w.networks.leave('s1', 's1');
  isHeld = true;
  const opening = w.networks.guard();
  await waitFor(() => ensured.at(-1)?.[0]?.egress === openEgress);
  await w.join('s2', 's2', noCalls);
  let isStarted = false;
  const starting = w.networks.guardFor('s2').then(() => {
    isStarted = true;
  });
  await nextTurn();
  expect(isStarted).toBe(false);
  gate.resolve();
  await Promise.all([opening, starting]);
  expect(ensured.at(-1)?.map(({ egress }) => egress)).toEqual([noCalls]);
  await w.networks.close();
});
