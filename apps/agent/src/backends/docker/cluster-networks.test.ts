import { AppError, deferred, parseSubnet } from '@backend.ai/core';
import { FakeClock } from '@backend.ai/testing';
import { expect, it } from 'vitest';
import { ClusterNetworks, type ClusterNetworksOptions } from './cluster-networks.ts';
import type { NetworkInfo } from './taken-subnets.ts';

type Engine = ClusterNetworksOptions['engine'];
type Creation = Parameters<Engine['createNetwork']>[0];

/** As an engine says no. */
function refusal(statusCode: number): AppError {
  return new AppError('engine-failed', 'no', { cause: Object.assign(new Error('no'), { statusCode }) });
}

function world(more: Partial<Engine> = {}, encrypted = false) {
  const clock = new FakeClock();
  const made: Creation[] = [];
  const present = new Map<string, NetworkInfo>();
  const add = (creation: Creation): void => {
    made.push(creation);
    present.set(creation.Name, { ...creation, Id: creation.Name } as unknown as NetworkInfo);
  };
  const engine: Engine = {
    listNetworks: async () => [...present.values()],
    createNetwork: async (creation) => add(creation),
    removeNetwork: async (id) => void present.delete(id),
    ...more,
  };
  const pool = parseSubnet('198.18.0.0/16')!;
  const networks = new ClusterNetworks({ engine, pool, prefix: 24, encrypted, clock });
  /** What becomes of it, with as much time as it takes. */
  const outcome = async <T>(work: Promise<T>): Promise<T> => {
    let isOver = false;
    const over = (): void => {
      isOver = true;
    };
    work.then(over, over);
    for (let passed = 0; !isOver && passed < 600_000; passed += 250) await clock.advance(250);
    return await work;
  };
  return { networks, clock, made, present, add, outcome };
}

it('is an overlay that containers can join and that leads nowhere else', async () => {
  const { networks, made, outcome } = world();
  expect(await outcome(networks.ensure('a'))).toBe('backendai-cluster-a');
  expect(made).toEqual([
    {
      Name: 'backendai-cluster-a',
      CheckDuplicate: true,
      Driver: 'overlay',
      Attachable: true,
      Internal: true,
      EnableIPv6: false,
      Labels: { 'ai.backend.session-id': 'a' },
      IPAM: { Driver: 'default', Config: [{ Subnet: '198.18.0.0/24' }] },
    },
  ]);
});

it('is encrypted on demand, has a range of its own, and is made once', async () => {
  const { networks, made, outcome } = world({}, true);
  await outcome(networks.ensure('a'));
  await outcome(networks.ensure('b'));
  await outcome(networks.ensure('a'));
  expect(made.map(({ Options, IPAM }) => [Options, IPAM?.Config])).toEqual([
    [{ encrypted: '' }, [{ Subnet: '198.18.0.0/24' }]],
    [{ encrypted: '' }, [{ Subnet: '198.18.1.0/24' }]],
  ]);
});

it('is not made any more when its removal was ordered while it waited', async () => {
  const gate = deferred<void>();
  const w = world({
    createNetwork: async (creation) => {
      await gate.promise;
      w.add(creation);
    },
  });
  const first = w.networks.ensure('a');
  const waiting = w.networks.ensure('b');
  const removal = w.networks.remove('b');
  gate.resolve();
  await expect(w.outcome(waiting)).rejects.toMatchObject({ code: 'cancelled' });
  await w.outcome(removal);
  await w.outcome(first);
  expect([...w.present.keys()]).toEqual(['backendai-cluster-a']);
  await w.outcome(w.networks.ensure('b'));
  expect(w.present.has('backendai-cluster-b')).toBe(true);
});

it('goes also when its removal was ordered while it was made', async () => {
  const begun = deferred<void>();
  const gate = deferred<void>();
  const w = world({
    createNetwork: async (creation) => {
      begun.resolve();
      await gate.promise;
      w.add(creation);
    },
  });
  const making = w.networks.ensure('a');
  await begun.promise;
  const removal = w.networks.remove('a');
  gate.resolve();
  await w.outcome(making);
  await w.outcome(removal);
  expect(w.made).toHaveLength(1);
  expect([...w.present.keys()]).toEqual([]);
});

it('is made anew when it was ordered after its removal', async () => {
  const w = world();
  await w.outcome(w.networks.ensure('a'));
  const removal = w.networks.remove('a');
  const again = w.networks.ensure('a');
  await w.outcome(removal);
  await w.outcome(again);
  expect(w.made).toHaveLength(2);
  expect(w.present.has('backendai-cluster-a')).toBe(true);
});

it('is that of another manager of the swarm that was quicker', async () => {
  const w = world({
    createNetwork: async (creation) => {
      w.add(creation);
      throw refusal(409);
    },
  });
  expect(await w.outcome(w.networks.ensure('a'))).toBe('backendai-cluster-a');
});

it('is tried a few times where the engine speaks of one that never appears, and not where it refuses otherwise', async () => {
  let asked = 0;
  const refusing = (statusCode: number) =>
    world({
      createNetwork: async () => {
        asked += 1;
        throw refusal(statusCode);
      },
    });
  const conflicting = refusing(409);
  await expect(conflicting.outcome(conflicting.networks.ensure('a'))).rejects.toMatchObject({ code: 'engine-failed' });
  expect(asked).toBe(4);
  const failing = refusing(500);
  await expect(failing.outcome(failing.networks.ensure('a'))).rejects.toMatchObject({ code: 'engine-failed' });
  expect(asked).toBe(5);
});

it('is removed once nobody uses it, and stays with the reason of the engine where somebody does for long', async () => {
  let uses = 3;
  const w = world({
    removeNetwork: async (id) => {
      uses -= 1;
      if (uses >= 0) throw refusal(403);
      w.present.delete(id);
    },
  });
  await w.outcome(w.networks.ensure('a'));
  await w.outcome(w.networks.remove('a'));
  expect([...w.present.keys()]).toEqual([]);
  await w.outcome(w.networks.ensure('a'));
  uses = Number.POSITIVE_INFINITY;
  await expect(w.outcome(w.networks.remove('a'))).rejects.toMatchObject({ code: 'engine-failed', message: 'no' });
  expect([...w.present.keys()]).toEqual(['backendai-cluster-a']);
});
