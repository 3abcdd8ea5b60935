import { chmodSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { idOfHost } from '@backend.ai/core';
import {
  type ClusterLayout,
  clusterLayout,
  dataDirectoryFailure,
  makeClusterFolder,
  makeFolder,
} from '@backend.ai/runtime';

/** Where an embedded cluster keeps what; only its owner may look in. */
export interface DataDirectory extends ClusterLayout {
  readonly keys: string;
  readonly agent: string;
  readonly logFile: string;
  /** What `up --detach` saw of the process it started, until its log was open. */
  readonly startLogFile: string;
  readonly adminSocket: string;
  readonly credentialsFile: string;
  readonly clusterFile: string;
}

export function dataDirectory(root: string): DataDirectory {
  return {
    ...clusterLayout(root),
    keys: join(root, 'keys'),
    agent: join(root, 'agent'),
    logFile: join(root, 'logs', 'cluster.log'),
    startLogFile: join(root, 'logs', 'start.log'),
    adminSocket: join(root, 'run', 'cluster.sock'),
    credentialsFile: join(root, 'credentials.json'),
    clusterFile: join(root, 'cluster.json'),
  };
}

/**
 * Everything in it is private by itself, so that the root may be passed through without showing anything.
 * @throws AppError `config-invalid` when it cannot be made there, or when something else lies there: that is left alone
 */
export function makeDataDirectory(
  directory: DataDirectory,
  {
    passable = false,
  }: {
    /** Programs that run as other users without a sandbox come by the real path. */ readonly passable?: boolean;
  } = {},
): void {
  const { root, agent } = directory;
  makeClusterFolder(directory);
  try {
    chmodSync(root, passable ? 0o711 : 0o700);
    for (const name of ['keys', 'logs', 'run']) {
      makeFolder(join(root, name));
      chmodSync(join(root, name), 0o700);
    }
    // The agent decides by itself who may pass: kernels may be at work in there.
    makeFolder(agent);
  } catch (cause) {
    throw dataDirectoryFailure(root, cause);
  }
}

export interface Credentials {
  readonly endpoint: string;
  readonly accessKey: string;
  readonly secretKey: string;
}

/** The process that serves a data directory now, or served it when it was killed. */
export interface ClusterRecord {
  readonly pid: number;
  readonly endpoint: string;
  readonly startedAt: string;
}

/** Readers meet the old or the new content, never half of it. */
export function writePrivateJson(path: string, value: unknown): void {
  const draft = `${path}.${process.pid}`;
  writeFileSync(draft, `${JSON.stringify(value, null, 2)}\n`, { mode: 0o600 });
  renameSync(draft, path);
}

export function readJson<T>(path: string): T | undefined {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as T;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** The name of the agent of this data directory: chosen at the first start, and kept when the machine changes its own. */
export function ensureAgentId(directory: DataDirectory, hostname: string): string {
  const kept = readJson<{ readonly id: string }>(directory.keyFiles['agent-id.json']);
  if (kept) return kept.id;
  const id = idOfHost('agent', hostname);
  writePrivateJson(directory.keyFiles['agent-id.json'], { id });
  return id;
}
