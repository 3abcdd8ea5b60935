import { existsSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { isPodmanVersion } from './docker/engine-traits.ts';

/** What is known of a container engine without starting anything in it. */
export type EngineReport =
  /** `absent`: no socket. `closed`: this user may not use it. `silent`: nobody answers there. */
  { readonly state: 'absent' | 'closed' | 'silent'; readonly socket: string } | ReadyEngine;

export interface ReadyEngine {
  readonly state: 'ready';
  readonly socket: string;
  /** `Docker`, or `Podman`, which speaks its protocol. */
  readonly product: 'Docker' | 'Podman';
  readonly version: string;
  /** Of the protocol, such as `1.41`. */
  readonly apiVersion: string;
  readonly cgroupVersion: string;
  readonly storageDriver: string;
  /** A node of a swarm can join networks over several machines. */
  readonly swarm: boolean;
  readonly rootless: boolean;
  /** Whether it can hand NVIDIA's devices to containers. */
  readonly nvidia: boolean;
  /** Names of the images that are made for sessions, sorted. */
  readonly images: readonly string[];
}

const dockerSocket = '/var/run/docker.sock';

/** Where the engine of this machine is when nobody says: Docker, else Podman of this user, else that of root. */
export function usualEngineSocket(
  { XDG_RUNTIME_DIR: ofUser }: { readonly XDG_RUNTIME_DIR?: string | undefined },
  exists: (path: string) => boolean = existsSync,
): string {
  const podman = [...(ofUser ? [join(ofUser, 'podman/podman.sock')] : []), '/run/podman/podman.sock'];
  return [dockerSocket, ...podman].find(exists) ?? dockerSocket;
}

/** That of Docker 20.10. */
export const oldestApiVersion = '1.41';

const patienceMs = 3_000;
const imagesOfSessions = `/images/json?filters=${encodeURIComponent('{"label":["ai.backend.kernelspec"]}')}`;

/** Asks by hand: what drives an engine takes long to load, and many machines have none. */
export async function examineEngine(socket: string): Promise<EngineReport> {
  try {
    const [version, info, images] = await Promise.all(
      ['/version', '/info', imagesOfSessions].map((path) => ask(socket, path)),
    );
    return describe(socket, version as VersionAnswer, info as InfoAnswer, images as ImageAnswer[]);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const state = code === 'ENOENT' ? 'absent' : code === 'EACCES' ? 'closed' : 'silent';
    return { state, socket };
  }
}

/** Whether it is new enough for kernels. */
export function isSupported({ apiVersion }: ReadyEngine): boolean {
  const [major = 0, minor = 0] = apiVersion.split('.').map(Number);
  const [oldestMajor, oldestMinor] = oldestApiVersion.split('.').map(Number) as [number, number];
  return major > oldestMajor || (major === oldestMajor && minor >= oldestMinor);
}

interface VersionAnswer {
  readonly Version: string;
  readonly ApiVersion: string;
  readonly Components?: ReadonlyArray<{ readonly Name: string }>;
}

interface InfoAnswer {
  readonly CgroupVersion?: string;
  readonly Driver: string;
  readonly Swarm?: { readonly LocalNodeState?: string };
  readonly Runtimes?: Readonly<Record<string, unknown>> | null;
  readonly SecurityOptions?: readonly string[] | null;
}

interface ImageAnswer {
  readonly RepoTags: readonly string[] | null;
}

function describe(
  socket: string,
  { Version, ApiVersion, Components = [] }: VersionAnswer,
  info: InfoAnswer,
  images: readonly ImageAnswer[],
): ReadyEngine {
  const product = isPodmanVersion({ Components }) ? 'Podman' : 'Docker';
  return {
    state: 'ready',
    socket,
    product,
    version: Version,
    apiVersion: ApiVersion,
    cgroupVersion: info.CgroupVersion ?? '1',
    storageDriver: info.Driver,
    swarm: info.Swarm?.LocalNodeState === 'active',
    rootless: (info.SecurityOptions ?? []).some((option) => option.includes('rootless')),
    nvidia: product === 'Docker' && 'nvidia' in (info.Runtimes ?? {}),
    images: images
      .flatMap(({ RepoTags }) => RepoTags ?? [])
      .filter((name) => !name.startsWith('<none>'))
      .sort(),
  };
}

function ask(socketPath: string, path: string): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const asked = request({ socketPath, path, timeout: patienceMs }, (answer) => {
      const chunks: Buffer[] = [];
      answer.on('data', (chunk: Buffer) => chunks.push(chunk));
      answer.on('error', reject);
      answer.on('end', () => {
        try {
          if (answer.statusCode !== 200) throw new Error(`The engine answers ${answer.statusCode} to ${path}.`);
          resolve(JSON.parse(Buffer.concat(chunks).toString()));
        } catch (error) {
          reject(error as Error);
        }
      });
    });
    asked.on('timeout', () => asked.destroy(new Error('The engine does not answer in time.')));
    asked.on('error', reject);
    asked.end();
  });
}
