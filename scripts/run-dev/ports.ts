import { readFile } from 'node:fs/promises';
import { AppError } from '@backend.ai/core';
import { parseToml } from '@backend.ai/runtime';
import { requirePort, runningIn } from '../dev-servers/index.ts';
import type { DevOptions } from './options.ts';
import { serverFolder, serverNames, serverTitles } from './server-names.ts';

export const defaultPorts = { postgres: 5432, redis: 6379, etcd: 2379 } as const;

type Ports = Readonly<Record<keyof typeof defaultPorts, number>>;

/** What the configuration of a manager says of servers on this machine; without a word of servers elsewhere. */
export async function configuredPorts(file: string): Promise<Partial<Ports>> {
  const text = await readFile(file, 'utf8').catch(() => undefined);
  if (text === undefined) return {};
  const { database = {}, redis = {}, etcd = {} } = parseToml(text) as Record<string, Record<string, unknown>>;
  const redisUrl =
    typeof redis['url-file'] === 'string' ? await readFile(redis['url-file'], 'utf8').catch(() => '') : redis.url;
  const [endpoint] = Array.isArray(etcd.endpoints) ? (etcd.endpoints as unknown[]) : [];
  const databaseUrl = database.url ?? `postgres://${database.host ?? '127.0.0.1'}:${database.port ?? ''}/`;
  const found = {
    postgres: portHere(databaseUrl, defaultPorts.postgres),
    redis: portHere(redisUrl, defaultPorts.redis),
    etcd: portHere(endpoint, defaultPorts.etcd),
  };
  return Object.fromEntries(Object.entries(found).filter(([, port]) => port !== undefined));
}

function portHere(url: unknown, byDefault: number): number | undefined {
  if (typeof url !== 'string' || !URL.canParse(url)) return undefined;
  const { hostname, port } = new URL(url);
  return ['127.0.0.1', 'localhost', '[::1]'].includes(hostname) ? Number(port || byDefault) : undefined;
}

/**
 * Refuses, before anything is changed, what could not be gone through with.
 * @param configured What `file` says. The URL of Redis is written by us, and follows.
 * @throws AppError `config-invalid`, `port-in-use`
 */
export function requireAgreement({ ports }: Pick<DevOptions, 'ports'>, file: string, configured: Partial<Ports>): void {
  for (const name of ['postgres', 'etcd'] as const) {
    const port = configured[name];
    if (port === undefined || port === ports[name]) continue;
    throw new AppError('config-invalid', `${file} has ${serverTitles[name]} on port ${port}, not on ${ports[name]}.`, {
      hint: `Leave out --${name}-port, or correct that file, or name a folder for others with --configs.`,
    });
  }
}

/** @throws AppError `port-in-use` for a server of ours on another port, and for a port that somebody else has */
export async function requirePorts({ directory, ports }: DevOptions): Promise<void> {
  for (const name of serverNames) {
    const running = await runningIn(serverFolder(directory, name));
    if (running === undefined) await requirePort(ports[name], serverTitles[name]);
    else if (running.port !== ports[name]) {
      const message = `${serverTitles[name]} runs already, on port ${running.port} and not on ${ports[name]}.`;
      throw new AppError('port-in-use', message, {
        hint: `Leave out --${name}-port, or stop it first: ./scripts/run-dev.sh stop --directory ${directory}`,
      });
    }
  }
}
