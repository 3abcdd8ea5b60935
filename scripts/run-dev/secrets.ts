import { randomBytes } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { DevOptions } from './options.ts';

/** Made once per data folder; configurations name the files, not the secrets. */
export interface DevSecrets {
  /** Of the superuser `postgres`. */
  readonly postgresSuperuser: string;
  /** Of `backend`, who owns the databases. */
  readonly postgres: string;
  readonly redis: string;
}

export function secretFile(directory: string, name: string): string {
  return join(directory, 'secrets', name);
}

export async function ensureSecrets({ directory }: DevOptions): Promise<DevSecrets> {
  await mkdir(join(directory, 'secrets'), { recursive: true, mode: 0o700 });
  return {
    postgresSuperuser: await ensureSecret(secretFile(directory, 'postgres-superuser')),
    postgres: await ensureSecret(secretFile(directory, 'postgres')),
    redis: await ensureSecret(secretFile(directory, 'redis')),
  };
}

/** Where the manager finds Redis, once that answers there. */
export async function writeRedisUrl({ directory, ports }: DevOptions, { redis }: DevSecrets): Promise<void> {
  const url = `redis://:${redis}@127.0.0.1:${ports.redis}`;
  await writeFile(secretFile(directory, 'redis-url'), url, { mode: 0o600 });
}

async function ensureSecret(file: string): Promise<string> {
  // A second process that makes it at the same moment is kept out by the lock of the data folder.
  const made = randomBytes(16).toString('hex');
  await writeFile(file, made, { mode: 0o600, flag: 'wx' }).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EEXIST') throw error;
  });
  return await readFile(file, 'utf8');
}
