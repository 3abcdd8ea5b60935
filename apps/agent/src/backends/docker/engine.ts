import { Agent, request } from 'node:http';
import { AppError, type Clock, hasCode } from '@backend.ai/core';
import Docker from 'dockerode';
import { Breaker } from './breaker.ts';

export interface EngineOptions {
  /** Of Docker, or of Podman's compatible service. */
  readonly socketPath: string;
  readonly clock: Clock;
  /** How long the engine may take to answer, in milliseconds; 10 s unless said otherwise. */
  readonly callTimeoutMs?: number | undefined;
}

export interface CallOptions {
  readonly signal?: AbortSignal | undefined;
  /** Instead of that of all calls. */
  readonly timeoutMs?: number | undefined;
}

/** What has to be removed, or started, may take longer than a question. */
const workTimeoutMs = 60_000;

export type ContainerInfo = Docker.ContainerInspectInfo;

/**
 * A container engine behind its socket. Every call has a deadline, and none is made while the engine hangs; only
 * `waitUntilStopped` may take for ever. Failures are AppErrors: `engine-unavailable` when nobody answered (the outcome is
 * unknown), `engine-failed` with the engine's reason, `cancelled`.
 */
export class Engine {
  readonly #docker: Docker;
  readonly #socketPath: string;
  readonly #clock: Clock;
  readonly #breaker: Breaker;
  readonly #callTimeoutMs: number;

  constructor({ socketPath, clock, callTimeoutMs = 10_000 }: EngineOptions) {
    // Connections of their own: one that was kept open would be answered by an engine that is about to end.
    const options: Docker.DockerOptions & { readonly agent: Agent } = {
      socketPath,
      agent: new Agent({ keepAlive: false }),
    };
    this.#docker = new Docker(options);
    this.#socketPath = socketPath;
    this.#clock = clock;
    this.#breaker = new Breaker(clock);
    this.#callTimeoutMs = callTimeoutMs;
  }

  /** Any call. Its deadline ends the wait, not the work of the engine. */
  async call<T>(
    what: string,
    work: (docker: Docker, abortSignal: AbortSignal) => Promise<T>,
    { signal, timeoutMs = this.#callTimeoutMs }: CallOptions = {},
  ): Promise<T> {
    if (signal?.aborted) throw cancelled();
    this.#breaker.check();
    const late = new AbortController();
    const cancel = this.#clock.setTimer(timeoutMs, () => late.abort());
    try {
      const over = signal ? AbortSignal.any([signal, late.signal]) : late.signal;
      const answer = await Promise.race([work(this.#docker, over), whenAborted(over)]);
      this.#breaker.answered();
      return answer;
    } catch (cause) {
      if (late.signal.aborted) {
        this.#breaker.unanswered();
        throw new AppError('engine-unavailable', `The container engine did not ${what} within ${timeoutMs / 1000} s.`, {
          cause,
        });
      }
      if (signal?.aborted) throw cancelled(cause);
      if (isRefusal(cause)) this.#breaker.answered();
      throw asEngineError(cause, what);
    } finally {
      cancel();
    }
  }

  /** For transfers, which take as long as they take. */
  get docker(): Docker {
    return this.#docker;
  }

  info(): Promise<EngineInfo> {
    return this.call('describe itself', async (docker) => (await docker.info()) as EngineInfo);
  }

  /** It speaks Docker's protocol, and does some things in its own way. */
  async isPodman(): Promise<boolean> {
    const { Components = [] } = await this.call(
      'tell its version',
      async (docker) => (await docker.version()) as { Components?: ReadonlyArray<{ readonly Name: string }> },
    );
    return Components.some(({ Name }) => Name.startsWith('Podman'));
  }

  /** Null when there is none. */
  inspectContainer(id: string): Promise<ContainerInfo | null> {
    return this.call('inspect a container', (docker, abortSignal) =>
      orNull(docker.getContainer(id).inspect({ abortSignal })),
    );
  }

  listContainers(filters: Filters): Promise<Docker.ContainerInfo[]> {
    return this.call('list containers', (docker, abortSignal) =>
      docker.listContainers({ all: true, filters: JSON.stringify(filters), abortSignal }),
    );
  }

  /** Answers its id. */
  async createContainer(options: Docker.ContainerCreateOptions, signal: AbortSignal): Promise<string> {
    const container = await this.call(
      'create a container',
      (docker, abortSignal) => docker.createContainer({ ...options, abortSignal }),
      { signal, timeoutMs: workTimeoutMs },
    );
    return container.id;
  }

  /** Whether there is something at this path of its files, whether it runs or not. */
  async hasFile(id: string, path: string): Promise<boolean> {
    const found = await this.call('look into a container', (docker, abortSignal) =>
      orNull(docker.getContainer(id).infoArchive({ path, abortSignal } as { path: string })),
    );
    return found !== null;
  }

  async startContainer(id: string, signal: AbortSignal): Promise<void> {
    const start = (docker: Docker, abortSignal: AbortSignal): Promise<unknown> =>
      docker.getContainer(id).start({ abortSignal });
    await this.call('start a container', start, { signal, timeoutMs: workTimeoutMs });
  }

  /** One that stands still already is as good. */
  async pauseContainer(id: string): Promise<void> {
    const pause = (docker: Docker, abortSignal: AbortSignal): Promise<unknown> =>
      docker.getContainer(id).pause({ abortSignal });
    await this.#unlessPaused(id, true, () => this.call('pause a container', pause));
  }

  /** One that runs already is as good. */
  async unpauseContainer(id: string): Promise<void> {
    const unpause = (docker: Docker, abortSignal: AbortSignal): Promise<unknown> =>
      docker.getContainer(id).unpause({ abortSignal });
    await this.#unlessPaused(id, false, () => this.call('let a container go on', unpause));
  }

  /** The engine refuses what is so already, in words that differ by version. */
  async #unlessPaused(id: string, wanted: boolean, work: () => Promise<unknown>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (refusalOf(error) === undefined) throw error;
      if ((await this.inspectContainer(id))?.State.Paused !== wanted) throw error;
    }
  }

  /** One that does not run, or is not there, is as good as killed. */
  async killContainer(id: string): Promise<void> {
    await this.call('kill a container', (docker, abortSignal) =>
      unless([404, 409], docker.getContainer(id).kill({ signal: 'SIGKILL', abortSignal })),
    );
  }

  /** With its anonymous volumes, whatever it does. Nothing happens when it is not there. */
  async removeContainer(id: string): Promise<void> {
    const remove = (docker: Docker, abortSignal: AbortSignal): Promise<unknown> =>
      unless([404], docker.getContainer(id).remove({ force: true, v: true, abortSignal } as object));
    await this.call('remove a container', remove, { timeoutMs: workTimeoutMs });
  }

  /**
   * Resolves when the container has stopped, or is gone, however long that takes; sometimes when it has not: look. Asked
   * by hand, because the client never notices that a connection ends in the middle of an answer, as when the engine is
   * started again.
   * @throws AppError `engine-unavailable` when the connection ends before
   */
  async waitUntilStopped(id: string, signal: AbortSignal): Promise<void> {
    const path = `/containers/${encodeURIComponent(id)}/wait?condition=not-running`;
    try {
      await new Promise<void>((resolve, reject) => {
        const asked = request(
          { socketPath: this.#socketPath, method: 'POST', path, signal, agent: false },
          (response) => {
            response.resume();
            response.on('error', reject);
            response.on('close', () => (response.complete ? resolve() : reject(new Error('The connection ended.'))));
          },
        );
        asked.on('error', reject);
        asked.end();
      });
    } catch (cause) {
      throw signal.aborted ? cancelled(cause) : asEngineError(cause, 'wait for a container');
    }
  }

  /** The end of what its first process has printed. */
  async containerLogs(id: string, lines: number): Promise<string> {
    const raw = await this.call('read the log of a container', (docker, abortSignal) =>
      orNull(docker.getContainer(id).logs({ stdout: true, stderr: true, tail: lines, abortSignal })),
    );
    return raw === null ? '' : textOfLog(raw);
  }

  /** By name, digest or id; null: it has none. */
  inspectImage(reference: string): Promise<Docker.ImageInspectInfo | null> {
    return this.call('inspect an image', (docker) => orNull(docker.getImage(reference).inspect()));
  }

  /** An image without a name of the container's files, during which it stands still. Answers its id. */
  async commitContainer(
    id: string,
    config: { readonly Env: readonly string[]; readonly Labels: Readonly<Record<string, string>> },
    signal: AbortSignal,
    timeoutMs: number,
  ): Promise<string> {
    // By hand: the client takes no configuration along.
    const commit = (docker: Docker, abortSignal: AbortSignal): Promise<{ Id: string }> =>
      new Promise((resolve, reject) => {
        docker.modem.dial(
          {
            path: '/commit?',
            method: 'POST',
            options: { _query: { container: id, pause: true }, _body: config },
            abortSignal,
            statusCodes: { 200: true, 201: true, 404: 'no such container', 500: 'server error' },
          },
          (error: unknown, answer: unknown) => (error ? reject(error) : resolve(answer as { Id: string })),
        );
      });
    return (await this.call('commit a container', commit, { signal, timeoutMs })).Id;
  }

  /** Takes in images from an archive as `docker save` writes it. */
  async loadImage(archive: NodeJS.ReadableStream, signal: AbortSignal): Promise<void> {
    const load = async (docker: Docker): Promise<void> => {
      const answer = (await docker.loadImage(archive, { quiet: true })) as unknown as AsyncIterable<Buffer>;
      let told = '';
      for await (const chunk of answer) told = `${told}${chunk}`.slice(-4_096);
      // What goes wrong after the answer has begun stands in it.
      const failed = /"error":"((?:[^"\\]|\\.)*)"/.exec(told)?.[1];
      if (failed !== undefined)
        throw new AppError('engine-failed', `The container engine did not load an image: ${failed}`);
    };
    await this.call('load an image', load, { signal, timeoutMs: workTimeoutMs });
  }

  /** Nothing happens when it is not there, or something was made of it. */
  async removeImage(reference: string): Promise<void> {
    const remove = (docker: Docker): Promise<unknown> => unless([404, 409], docker.getImage(reference).remove());
    await this.call('remove an image', remove, { timeoutMs: workTimeoutMs });
  }

  /** Images that bear the labels, those without a name, too. */
  listImages(filters: Filters): Promise<Docker.ImageInfo[]> {
    return this.call('list images', (docker) => docker.listImages({ filters: JSON.stringify(filters) }));
  }

  listNetworks(filters: Filters = {}): Promise<Docker.NetworkInspectInfo[]> {
    return this.call('list networks', (docker, abortSignal) =>
      docker.listNetworks({ filters: JSON.stringify(filters), abortSignal } as object),
    );
  }

  async createNetwork(options: Docker.NetworkCreateOptions, signal?: AbortSignal): Promise<void> {
    const create = (docker: Docker, abortSignal: AbortSignal): Promise<unknown> =>
      docker.createNetwork({ ...options, abortSignal });
    await this.call('create a network', create, { signal, timeoutMs: workTimeoutMs });
  }

  /** Beside those that it has. */
  async connectNetwork(network: string, containerId: string, signal: AbortSignal): Promise<void> {
    const connect = (docker: Docker, abortSignal: AbortSignal): Promise<unknown> =>
      docker.getNetwork(network).connect({ Container: containerId, abortSignal } as { Container: string });
    await this.call('connect a container to a network', connect, { signal, timeoutMs: workTimeoutMs });
  }

  async removeNetwork(id: string): Promise<void> {
    const remove = (docker: Docker, abortSignal: AbortSignal): Promise<unknown> =>
      unless([404], docker.getNetwork(id).remove({ abortSignal } as object));
    await this.call('remove a network', remove, { timeoutMs: workTimeoutMs });
  }
}

type Filters = Readonly<Record<string, readonly string[]>>;

export interface EngineInfo {
  readonly ServerVersion: string;
  readonly Architecture: string;
  readonly SecurityOptions?: readonly string[] | null;
  readonly MemoryLimit?: boolean;
  readonly PidsLimit?: boolean;
  readonly CpuCfsQuota?: boolean;
  readonly OSType?: string;
  /** Whether its containers outlive it. */
  readonly LiveRestoreEnabled?: boolean;
  readonly Swarm?: {
    readonly NodeID?: string;
    readonly LocalNodeState?: string;
    readonly ControlAvailable?: boolean;
    readonly RemoteManagers?: ReadonlyArray<{ readonly NodeID: string }> | null;
    readonly Cluster?: { readonly ID?: string; readonly DataPathPort?: number } | null;
  };
}

/** The HTTP status with which the engine has refused a call; undefined: it was not that. */
export function refusalOf(error: unknown): number | undefined {
  return error instanceof AppError && isRefusal(error.cause) ? error.cause.statusCode : undefined;
}

/** Whether nobody was there to answer a call; false also for an engine that hangs. */
export function foundNobody(error: unknown): boolean {
  return hasCode(error, 'engine-unavailable') && error.cause instanceof Error && error.cause.name !== 'AbortError';
}

interface Refusal extends Error {
  readonly statusCode: number;
  readonly json?: { readonly message?: string } | undefined;
}

function isRefusal(error: unknown): error is Refusal {
  return error instanceof Error && typeof (error as Partial<Refusal>).statusCode === 'number';
}

function asEngineError(cause: unknown, what: string): AppError {
  if (cause instanceof AppError) return cause;
  if (!isRefusal(cause)) {
    return new AppError('engine-unavailable', `The container engine could not be asked to ${what}.`, { cause });
  }
  const reason = cause.json?.message ?? cause.message;
  return new AppError('engine-failed', `The container engine did not ${what}: ${reason}`, { cause });
}

function cancelled(cause?: unknown): AppError {
  return new AppError('cancelled', 'The call to the container engine was given up.', { cause });
}

/** For calls that take no signal. */
function whenAborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason), { once: true });
  });
}

async function orNull<T>(answer: Promise<T>): Promise<T | null> {
  try {
    return await answer;
  } catch (error) {
    if (isRefusal(error) && error.statusCode === 404) return null;
    throw error;
  }
}

async function unless(statuses: readonly number[], answer: Promise<unknown>): Promise<void> {
  try {
    await answer;
  } catch (error) {
    if (!isRefusal(error) || !statuses.includes(error.statusCode)) throw error;
  }
}

/** Of a container without a terminal both streams come in one, in frames of their own: 8 bytes of head, then text. */
function textOfLog(raw: Buffer): string {
  const parts: Buffer[] = [];
  for (let at = 0; at + 8 <= raw.length; ) {
    const length = raw.readUInt32BE(at + 4);
    parts.push(raw.subarray(at + 8, at + 8 + length));
    at += 8 + length;
  }
  return Buffer.concat(parts).toString('utf8');
}
