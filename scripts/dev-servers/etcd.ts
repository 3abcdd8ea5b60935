import { mkdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { DevServer, type DevServerOptions } from './dev-server.ts';
import { freePort } from './ports.ts';
import { requireProgram } from './programs.ts';

/** A cluster of one etcd on loopback only, without a password. */
export async function startEtcd(options: DevServerOptions): Promise<DevServer> {
  const program = requireProgram('etcd');
  const directory = resolve(options.directory);
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const port = options.port ?? (await freePort());
  const url = `http://127.0.0.1:${port}`;
  const peerUrl = `http://127.0.0.1:${await freePort()}`;
  return DevServer.start({
    name: 'etcd',
    directory,
    port,
    url,
    command: [
      program,
      ...['--name', 'dev', '--data-dir', join(directory, 'data'), '--log-level', 'warn'],
      ...['--listen-client-urls', url, '--advertise-client-urls', url],
      ...['--listen-peer-urls', peerUrl, '--initial-advertise-peer-urls', peerUrl],
      ...['--initial-cluster', `dev=${peerUrl}`],
    ],
    // Without it version 3.4 refuses what its authors did not test.
    environment: process.arch === 'arm64' ? { ETCD_UNSUPPORTED_ARCH: 'arm64' } : {},
    stopSignal: 'SIGTERM',
    survives: options.survives ?? false,
    probe: async () => {
      const answer = await fetch(`${url}/health`, { signal: AbortSignal.timeout(2_000) });
      const { health } = (await answer.json()) as { health?: string };
      if (health !== 'true') throw new Error('etcd is not healthy yet.');
    },
  });
}
