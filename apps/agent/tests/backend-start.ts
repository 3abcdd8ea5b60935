import { randomUUID } from 'node:crypto';
import { AppError, systemClock } from '@backend.ai/core';
import { silentLogger } from '@backend.ai/telemetry';
import { DockerBackend } from '../src/backends/docker/docker-backend.ts';

/** Starts a backend of containers in a process of its own, and prints what came of it. Arguments: folder, socket, range. */
const [dataDir = '', socketPath = '', subnetPool = ''] = process.argv.slice(2);
const backend = new DockerBackend({
  ...{
    dataDir,
    installationId: randomUUID(),
    agentId: 'i-test',
    socketPath,
    subnetPool,
    subnetPrefix: 26,
    spareNetworks: 0,
    clusterSubnetPool: '10.98.0.0/16',
    clusterSubnetPrefix: 24,
    encryptClusterNetworks: false,
  },
  ...{ readOnlyRoot: false, processLimit: 64, startDeadlineMs: 1_000, allowUnguarded: false },
  ...{ clock: systemClock, logger: silentLogger },
});
try {
  await backend.start();
  process.stdout.write(JSON.stringify(backend.capabilities.isolation));
} catch (error) {
  process.stdout.write(JSON.stringify(AppError.from(error).toBody(randomUUID())));
} finally {
  await backend.close();
}
