import { Agent, request } from 'node:http';
import { inspect } from 'node:util';
import { AppError, type Clock, hasCode } from '@backend.ai/core';
import Docker from 'dockerode';
import { Breaker, hungAfter } from './breaker.ts';
import { type EngineTraits, type EngineVersion, engineTraits } from './engine-traits.ts';
import { podmanNetwork, podmanNetworkPath, withBridgeOfPodman } from './podman-networks.ts';

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

/** A connection for each call: one that was kept open would be answered by an engine that is about to end. */
class OwnConnections extends Agent {
  constructor() {
    super({ keepAlive: false });
  }

  /** The engine's client describes the options of each call for its debug log, though it is off, with all they lead to. */
  [inspect.custom](): string {
    return 'OwnConnections {}';
  }
}

/**
 * A container engine behind its socket. Every call has a deadline, and none is made while the engine hangs; only
 * `waitUntilStopped` may take for ever. Failures are AppErrors: `engine-unavailable` when nobody answered (the outcome is
 * unknown), `engine-failed` with the engine's reason, `disk-full`, `cancelled`.
 */
export class Engine {
  readonly #docker: Docker;
  readonly #socketPath: string;
  readonly #clock: Clock;
  readonly #breaker: Breaker;
  readonly #callTimeoutMs: number;
  #traits: EngineTraits | undefined;
  #hasAnswered = false;
  /** Calls in a row that nobody answered. */
  #missed = 0;
  #outage: AppError | undefined;

  constructor({ socketPath, clock, callTimeoutMs = 10_000 }: EngineOptions) {
    const options: Docker.DockerOptions & { readonly agent: Agent } = { socketPath, agent: new OwnConnections() };
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
      this.#answered();
      return answer;
    } catch (cause) {
      if (late.signal.aborted) {
        this.#breaker.unanswered();
        const message = `The container engine did not ${what} within ${timeoutMs / 1000} s.`;
        throw this.#away(new AppError('engine-unavailable', message, { cause }));
      }
      if (signal?.aborted) throw cancelled(cause);
      if (isRefusal(cause)) this.#answered();
      const error = asEngineError(cause, what);
      throw foundNobody(error) ? this.#away(error) : error;
    } finally {
      cancel();
    }
  }

  /**
   * Set from a call that found nobody there, or as many in a row that nobody answered as the breaker wants, until the next
   * one that somebody does: a lost connection or a slow call says little of an engine that answers others.
   */
  get outage(): AppError | undefined {
    return this.#outage;
  }

  /** Finds out whether it is there, if nobody answered the last call. What comes of it `outage` tells. */
  async recheck(): Promise<void> {
    if (this.#missed > 0) await this.info().catch(() => {});
  }

  #answered(): void {
    this.#breaker.answered();
    this.#hasAnswered = true;
    this.#missed = 0;
    this.#outage = undefined;
  }

  #away(error: AppError): AppError {
    const cause = foundNobody(error) ? error.cause : error;
    this.#missed += 1;
    if (this.#hasAnswered && this.#missed < hungAfter && !isNobodyThere(cause)) return error;
    this.#outage = new AppError('engine-unavailable', 'The container engine of this agent does not answer.', { cause });
    return error;
  }

  /** For transfers, which take as long as they take. */
  get docker(): Docker {
    return this.#docker;
  }

  info(): Promise<EngineInfo> {
    return this.call('describe itself', async (docker) => (await docker.info()) as EngineInfo);
  }

  /** Asked for once. */
  async traits(): Promise<EngineTraits> {
    this.#traits ??= engineTraits(
      await this.call('tell its version', async (docker) => (await docker.version()) as unknown as EngineVersion),
    );
    return this.#traits;
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
    try {
      await this.call('kill a container', (docker, abortSignal) =>
        unless([404, 409], docker.getContainer(id).kill({ signal: 'SIGKILL', abortSignal })),
      );
    } catch (error) {
      // Engines differ in the status by which they refuse what does not run.
      if (refusalOf(error) === undefined || (await this.inspectContainer(id))?.State.Running) throw error;
    }
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
    const options = { _query: { container: id, pause: true }, _body: config };
    const commit = (docker: Docker, abortSignal: AbortSignal): Promise<{ Id: string }> =>
      post(docker, '/commit', options, abortSignal);
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
      if (failed !== undefined) throw refused(`The container engine did not load an image: ${failed}`);
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

  async listNetworks(filters: Filters = {}): Promise<Docker.NetworkInspectInfo[]> {
    const { isPodman } = await this.traits();
    const found = await this.call('list networks', (docker, abortSignal) =>
      docker.listNetworks({ filters: JSON.stringify(filters), abortSignal } as object),
    );
    return isPodman ? found.map(withBridgeOfPodman) : found;
  }

  /** By id or name. Null when there is none. */
  async inspectNetwork(id: string): Promise<Docker.NetworkInspectInfo | null> {
    const { isPodman } = await this.traits();
    const found = await this.call('inspect a network', (docker) => orNull(docker.getNetwork(id).inspect()));
    return found && isPodman ? withBridgeOfPodman(found) : found;
  }

  async createNetwork(options: Docker.NetworkCreateOptions, signal?: AbortSignal): Promise<void> {
    const { isPodman } = await this.traits();
    const create = (docker: Docker, abortSignal: AbortSignal): Promise<unknown> =>
      isPodman
        ? post(docker, podmanNetworkPath, { _query: {}, _body: podmanNetwork(options) }, abortSignal)
        : docker.createNetwork({ ...options, abortSignal });
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

/** Whether there is no socket, or nobody listens at it. */
function isNobodyThere(cause: unknown): boolean {
  const { code } = cause as NodeJS.ErrnoException;
  return code === 'ENOENT' || code === 'ECONNREFUSED';
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
  return refused(`The container engine did not ${what}: ${reasonOf(cause)}`, cause);
}

/** Engines have no code for a disk that is full. */
function refused(message: string, cause?: unknown): AppError {
  return new AppError(/no space left|disk quota/i.test(message) ? 'disk-full' : 'engine-failed', message, { cause });
}

function reasonOf({ json, message }: Refusal): string {
  return json?.message ?? message;
}

/** Calls that the client knows nothing of, or not with all that they take. */
function post<T>(
  { modem }: Docker,
  path: string,
  options: { readonly _query: object; readonly _body: object },
  abortSignal: AbortSignal,
): Promise<T> {
  const statusCodes = { 200: true, 201: true, 404: 'not found', 409: 'conflict', 500: 'server error' };
  return new Promise((resolve, reject) => {
    modem.dial({ path: `${path}?`, method: 'POST', options, abortSignal, statusCodes }, (error, answer) =>
      error ? reject(error) : resolve(answer as T),
    );
  });
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
