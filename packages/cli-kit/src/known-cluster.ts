import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { AppError } from '@backend.ai/core';

/** Where the cluster is and who asks. Looked up in flags, environment, saved login, embedded cluster, in this order. */
export interface KnownCluster {
  readonly endpoint: string;
  readonly accessKey: string;
  readonly secretKey: string;
}

export type ClusterFlags = { readonly [key in keyof KnownCluster]?: string | undefined };
export type Env = Readonly<Record<string, string | undefined>>;

function home(env: Env): string {
  return env.HOME || homedir();
}

/** The login of this user. */
export function loginFile(env: Env): string {
  return join(env.XDG_CONFIG_HOME || join(home(env), '.config'), 'backend.ai', 'credentials.json');
}

/** Where an embedded cluster keeps everything unless told otherwise. */
export function dataDirectory(env: Env): string {
  return env.BACKEND_DATA_DIR || join(env.XDG_DATA_HOME || join(home(env), '.local', 'share'), 'backend.ai');
}

/** Written by the embedded cluster when it is up, mode 0600. */
export function embeddedFile(env: Env): string {
  return join(dataDirectory(env), 'credentials.json');
}

export interface FoundCluster extends KnownCluster {
  /** Whether it is known from the saved login, which comes before the embedded cluster. */
  readonly fromLogin: boolean;
}

/** @throws AppError `auth-missing` when a part is found nowhere */
export async function findCluster(flags: ClusterFlags, env: Env): Promise<FoundCluster> {
  const given: ClusterFlags = {
    endpoint: flags.endpoint ?? (env.BACKEND_ENDPOINT || undefined),
    accessKey: flags.accessKey ?? (env.BACKEND_ACCESS_KEY || undefined),
    secretKey: flags.secretKey ?? (env.BACKEND_SECRET_KEY || undefined),
  };
  if (isComplete(given)) return { ...given, fromLogin: false };
  const login = await readCluster(loginFile(env));
  const kept = login ?? (await readCluster(embeddedFile(env)));
  const endpoint = given.endpoint ?? kept?.endpoint;
  const accessKey = given.accessKey ?? kept?.accessKey;
  const secretKey = given.secretKey ?? kept?.secretKey;
  const found = { endpoint, accessKey, secretKey };
  if (isComplete(found)) return { ...found, fromLogin: login !== undefined && given.endpoint === undefined };
  throw new AppError('auth-missing', 'No cluster and login are known here.', {
    hint: 'Start a cluster with: ./backend.ai up --detach   or log in to one with: ./backend.ai login --endpoint URL',
  });
}

function isComplete(cluster: ClusterFlags): cluster is KnownCluster {
  return cluster.endpoint !== undefined && cluster.accessKey !== undefined && cluster.secretKey !== undefined;
}

/** @throws AppError `config-invalid` when the file is there but cannot be used */
export async function readCluster(file: string): Promise<KnownCluster | undefined> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw new AppError('config-invalid', `The credentials in ${file} cannot be read.`, { cause });
  }
  try {
    const { endpoint, accessKey, secretKey } = JSON.parse(text) as Record<string, unknown>;
    if (typeof endpoint === 'string' && typeof accessKey === 'string' && typeof secretKey === 'string') {
      return { endpoint, accessKey, secretKey };
    }
  } catch {
    // Told below.
  }
  throw new AppError('config-invalid', `The credentials in ${file} are damaged.`, {
    hint: 'Write them anew with: ./backend.ai login',
  });
}

export async function saveLogin(env: Env, cluster: KnownCluster): Promise<string> {
  const file = loginFile(env);
  await mkdir(dirname(file), { recursive: true, mode: 0o700 });
  // A file that exists keeps its mode, so it is made anew.
  await rm(file, { force: true });
  const { endpoint, accessKey, secretKey } = cluster;
  await writeFile(file, `${JSON.stringify({ endpoint, accessKey, secretKey }, null, 2)}\n`, {
    mode: 0o600,
    flag: 'wx',
  });
  return file;
}

/** False when there was none. */
export async function forgetLogin(env: Env): Promise<boolean> {
  try {
    await rm(loginFile(env));
    return true;
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw cause;
  }
}
