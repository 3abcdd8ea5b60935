import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { AppError } from '@backend.ai/core';
import { type ClusterLayout, clusterLayout } from '@backend.ai/runtime';

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
  try {
    makeFolder(root);
    if (!isOurs(directory)) {
      throw new AppError('config-invalid', `${root} holds something else than the data of a cluster.`, {
        hint: 'Name an empty folder, or one that is not there yet, with --data-dir.',
      });
    }
    chmodSync(root, passable ? 0o711 : 0o700);
    for (const name of ownFolders) {
      makeFolder(join(root, name));
      chmodSync(join(root, name), 0o700);
    }
    // The agent decides by itself who may pass: kernels may be at work in there.
    makeFolder(agent);
  } catch (cause) {
    if (cause instanceof AppError) throw cause;
    const { code = '', message } = cause as NodeJS.ErrnoException;
    throw new AppError('config-invalid', `${root} cannot be the data directory: ${sayings[code] ?? message}.`, {
      hint: 'Name a folder that you may write to with --data-dir (or $BACKEND_DATA_DIR).',
      cause,
    });
  }
}

/** In the order in which they are made. */
const ownFolders = ['keys', 'logs', 'run'];

const sayings: Readonly<Record<string, string>> = {
  EACCES: 'you may not write there',
  EPERM: 'it belongs to somebody else',
  EEXIST: 'it is no folder',
  ENOTDIR: 'part of the path is no folder',
  EROFS: 'the file system is read-only',
  ENOENT: 'nothing can be made there',
};

/** Empty, a cluster's, or what a start that ended early left there. */
function isOurs({ root, agent, keyFiles }: DataDirectory): boolean {
  const entries = readdirSync(root).filter((name) => name !== 'lost+found');
  if (entries.length === 0 || Object.values(keyFiles).some((file) => existsSync(file))) return true;
  return entries.includes('keys') && entries.every((name) => [...ownFolders, basename(agent)].includes(name));
}

/** Level by level: `recursive` never returns where nothing can be made, as below /proc. */
function makeFolder(path: string): void {
  try {
    mkdirSync(path, { mode: 0o700 });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST' && statSync(path).isDirectory()) return;
    if (code !== 'ENOENT' || dirname(path) === path) throw error;
    makeFolder(dirname(path));
    mkdirSync(path, { mode: 0o700 });
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
  const id = `i-${hostname.replace(/[^A-Za-z0-9._-]/g, '-').slice(0, 48)}`;
  writePrivateJson(directory.keyFiles['agent-id.json'], { id });
  return id;
}
