import type { Image } from '@backend.ai/contract';
import { parseResourceSlots, systemClock } from '@backend.ai/core';
import { silentLogger } from '@backend.ai/telemetry';
import { tempDirectory } from '@backend.ai/testing';
import { expect, it, onTestFinished } from 'vitest';
import { capacityOf } from '../../resources/inventory.ts';
import { DockerBackend } from './docker-backend.ts';
import { keepKnownEngine } from './known-engine.ts';
import { isolationOf } from './open-context.ts';

async function startedWithoutEngine(dataDir: string): Promise<DockerBackend> {
  const backend = new DockerBackend({
    ...{ dataDir, installationId: 'i', agentId: 'a', socketPath: `${dataDir}/none.sock` },
    ...{
      subnetPool: '10.99.0.0/16',
      subnetPrefix: 26,
      spareNetworks: 0,
      clusterSubnetPool: '10.98.0.0/16',
      clusterSubnetPrefix: 24,
    },
    ...{ encryptClusterNetworks: false, readOnlyRoot: false, allowUnguarded: false, processLimit: 64 },
    ...{ startDeadlineMs: 1_000, slots: parseResourceSlots({ cpu: 2 }), clock: systemClock, logger: silentLogger },
  });
  onTestFinished(() => backend.close());
  await backend.start();
  return backend;
}

it('a backend whose engine has never answered starts, offers what the machine has, and promises nothing of the engine', async () => {
  const backend = await startedWithoutEngine(await tempDirectory());
  const { inventory, images, isolation, swarm } = backend.capabilities;
  expect(capacityOf(inventory)).toEqual(parseResourceSlots({ cpu: 2 }));
  expect({ images, swarm }).toEqual({ images: [], swarm: undefined });
  expect(isolation).toMatchObject({ memory: 'none', cpu: 'none', machine: 'open', egress: 'open' });
  expect(backend.outage).toMatchObject({ code: 'engine-unavailable' });
  expect(() => backend.images).toThrow(backend.outage);
  await expect(backend.recover()).rejects.toMatchObject({ code: 'engine-unavailable' });
});

it('a backend whose engine is away offers what it offered before', async () => {
  const dataDir = await tempDirectory();
  const known = { isolation: isolationOf({}, true), images: [{ name: 'backend.ai/python:3.11' } as Image] };
  keepKnownEngine(dataDir, { socket: `${dataDir}/none.sock`, ...known });
  const { images, isolation } = (await startedWithoutEngine(dataDir)).capabilities;
  expect({ images, isolation }).toEqual(known);
});
