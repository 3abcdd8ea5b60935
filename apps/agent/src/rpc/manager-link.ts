import {
  type AgentGatewayRouter,
  type AgentGatewayService,
  type AgentRegistration,
  createAgentGatewayRouter,
  type KernelEvent,
  type KernelMeasurement,
  type KernelReport,
  type ManagersKnown,
  type Metrics,
  procedureMetas,
  type RegistrationReply,
  type WarmSlotReport,
} from '@backend.ai/contract';
import { backoffMs, type Clock, deferred, delay, newRequestId, nextTurn, parseRequestId } from '@backend.ai/core';
import { createRpcClient, type PeerIdentity, type RpcClient } from '@backend.ai/rpc';
import { BackgroundTasks, failureFields, type Logger, runWithRequest } from '@backend.ai/telemetry';
import type { Outbox } from '../kernels/outbox.ts';

export interface ManagerLinkOptions {
  /** Tried in this order, round and round. */
  readonly addresses: readonly string[];
  readonly identity: PeerIdentity;
  /** Of the managers that may answer. */
  readonly managerKeys: () => readonly string[];
  /** A manager has told the keys of all. */
  readonly onManagerKeys: (keys: readonly string[]) => void;
  readonly joinToken: string | undefined;
  readonly registration: () => AgentRegistration;
  readonly kernels: () => KernelReport[];
  readonly measurements: () => KernelMeasurement[];
  readonly machine: () => Metrics;
  readonly warmSlots: () => WarmSlotReport[];
  /** The manager has given these up. */
  readonly onUnknown: (kernelIds: readonly string[]) => void;
  readonly outbox: Outbox;
  readonly clock: Clock;
  readonly logger: Logger;
}

export interface LinkStatus {
  readonly state: 'connecting' | 'registered' | 'stopped';
  readonly manager: string | null;
  readonly since: string | null;
  readonly lastHeartbeat: string | null;
  readonly lastError: string | null;
}

const reconnect = { initialMs: 50, maxMs: 5_000 };
const largestBatch = 200;
/** A manager that hangs is left for another one within twice this time. */
const pingMs = 2_500;
/** Only the shape of the procedures is used: the implementation is the manager's. */
const metas = procedureMetas(createAgentGatewayRouter({} as AgentGatewayService));

/**
 * The agent's line to whichever of its managers answers: registers after every connection, sends events at once and
 * heartbeats when due. Without a line everything waits in the outbox.
 */
export class ManagerLink {
  readonly #options: ManagerLinkOptions;
  readonly #stop = new AbortController();
  readonly #tasks: BackgroundTasks;
  #started = false;
  #client: RpcClient<AgentGatewayRouter> | undefined;
  #joinToken: string | undefined;
  /** What the manager knows of; its parts are replaced as a whole when they change. */
  #told: AgentRegistration | undefined;
  #sending = false;
  /** Warm slots have changed since they were told. */
  #slotsChanged = false;
  #tellingSlots = false;
  #status: LinkStatus = { state: 'connecting', manager: null, since: null, lastHeartbeat: null, lastError: null };
  #registered = deferred<void>();

  constructor(options: ManagerLinkOptions) {
    this.#options = options;
    this.#tasks = new BackgroundTasks(options.logger);
    this.#joinToken = options.joinToken;
  }

  get status(): LinkStatus {
    return this.#status;
  }

  /** Resolves after the first registration. */
  get registered(): Promise<void> {
    return this.#registered.promise;
  }

  start(): void {
    if (!this.#started) this.#tasks.start('manager link', () => this.#drive());
    this.#started = true;
  }

  /** There are new events. */
  hint(): void {
    const client = this.#client;
    if (!client || this.#sending) return;
    this.#sending = true;
    this.#tasks.start('send events', async () => {
      // What happens in one turn of the event loop is told together: a report less is a statement less at the manager.
      await nextTurn();
      await this.#send(client);
    });
  }

  /** Warm slots have changed. Told one after the other, as each telling is of all of them. */
  warmSlotsChanged(): void {
    this.#slotsChanged = true;
    const client = this.#client;
    if (!client || this.#tellingSlots) return;
    this.#tellingSlots = true;
    this.#tasks.start('report warm slots', () => this.#tellSlots(client));
  }

  /** What the agent offers has changed. Without a line the next registration tells. */
  registerAgain(): void {
    const client = this.#client;
    if (!client) return;
    this.#tasks.start('register again', async () => {
      try {
        await this.#tellAll(client, this.#options.registration());
      } catch (error) {
        // A line that is lost is replaced, and registered anew.
        this.#options.logger.warn('the agent could not register again', failureFields(error));
      }
    });
  }

  /** Gives events that wait a chance, then closes. */
  async close(graceMs: number): Promise<void> {
    const { clock, outbox } = this.#options;
    const until = clock.monotonic() + graceMs;
    while (this.#client && outbox.pending.length > 0 && clock.monotonic() < until) await delay(clock, 10);
    this.#stop.abort();
    await this.#tasks.drain();
    this.#status = { ...this.#status, state: 'stopped', manager: null };
  }

  async #drive(): Promise<void> {
    const { addresses, clock, logger } = this.#options;
    for (let failures = 0, turn = 0; !this.#stop.signal.aborted; turn++) {
      const address = addresses[turn % addresses.length] ?? '';
      await runWithRequest({ requestId: newRequestId() }, async () => {
        try {
          await this.#useOne(address);
          failures = 0;
        } catch (error) {
          failures += 1;
          this.#status = { ...this.#status, lastError: error instanceof Error ? error.message : String(error) };
          if (!this.#stop.signal.aborted) {
            logger.warn('manager cannot be used', { address, failures, ...failureFields(error) });
          }
        }
      });
      // All addresses are tried before waiting longer.
      const waitMs = backoffMs(Math.floor(failures / addresses.length), reconnect);
      if (!this.#stop.signal.aborted) await delay(clock, waitMs, this.#stop.signal);
    }
  }

  /** Resolves when the line, once used, is lost. */
  async #useOne(address: string): Promise<void> {
    const { identity, managerKeys, logger, clock } = this.#options;
    const client = createRpcClient<AgentGatewayRouter>({
      address,
      identity,
      serverKeys: managerKeys(),
      ...(this.#joinToken === undefined ? {} : { token: this.#joinToken }),
      metas,
      limits: { pingMs },
      logger,
      clock,
    });
    const lost = deferred();
    const onStop = (): void => lost.resolve();
    this.#stop.signal.addEventListener('abort', onStop, { once: true });
    try {
      await Promise.race([client.connect(), lost.promise]);
      if (this.#stop.signal.aborted) return;
      this.#joinToken = undefined;
      client.onStateChange((state) => {
        if (state !== 'ready') lost.resolve();
      });
      const heartbeatMs = await this.#register(client, address);
      this.#client = client;
      this.hint();
      await Promise.all([lost.promise, this.#beat(client, heartbeatMs, lost.promise)]);
    } finally {
      this.#stop.signal.removeEventListener('abort', onStop);
      this.#client = undefined;
      this.#status = { ...this.#status, state: 'connecting', manager: null };
      await client.close();
    }
  }

  async #register(client: RpcClient<AgentGatewayRouter>, address: string): Promise<number> {
    const { registration, outbox, logger, clock } = this.#options;
    const reply = await this.#tellAll(client, registration());
    outbox.continueAfter(reply.ackedSeq);
    this.#keepKeys(reply);
    this.#status = {
      state: 'registered',
      manager: address,
      since: new Date(clock.now()).toISOString(),
      lastHeartbeat: null,
      lastError: null,
    };
    logger.info('registered with a manager', { address, heartbeat_ms: reply.heartbeatMs, acked_seq: reply.ackedSeq });
    this.#registered.resolve();
    return reply.heartbeatMs;
  }

  #keepKeys({ managerKeys }: ManagersKnown): void {
    if (managerKeys !== undefined && managerKeys.length > 0) this.#options.onManagerKeys(managerKeys);
  }

  /** One at once, then on time, until the line is lost. */
  async #beat(client: RpcClient<AgentGatewayRouter>, heartbeatMs: number, lost: Promise<void>): Promise<void> {
    const { clock, logger } = this.#options;
    const over = new AbortController();
    void lost.then(() => over.abort());
    while (!over.signal.aborted) {
      await runWithRequest({ requestId: newRequestId() }, async () => {
        try {
          await this.#heartbeat(client);
          this.hint();
        } catch (error) {
          if (!over.signal.aborted) logger.warn('heartbeat failed', failureFields(error));
        }
      });
      await delay(clock, heartbeatMs, over.signal);
    }
  }

  async #heartbeat(client: RpcClient<AgentGatewayRouter>): Promise<void> {
    const { registration, kernels, measurements, machine, outbox, onUnknown, clock } = this.#options;
    const { agentId, bootId } = registration();
    const beat = {
      ...{ agentId, bootId, kernels: kernels(), lastEventSeq: outbox.lastSeq },
      ...{ measurements: measurements(), machine: machine() },
    };
    const reply = await client.api.heartbeat.mutate(beat);
    this.#keepKeys(reply);
    this.#status = { ...this.#status, lastHeartbeat: new Date(clock.now()).toISOString() };
    const told = new Set(beat.kernels.map(({ kernelId }) => kernelId));
    const unknown = reply.unknownKernels.filter((kernelId) => told.has(kernelId));
    if (unknown.length > 0) onUnknown(unknown);
    await this.#tellEngine(client);
    await this.#tellImages(client);
  }

  /** People make swarms of engines that run, and an engine may have come up after its agent. */
  async #tellEngine(client: RpcClient<AgentGatewayRouter>): Promise<void> {
    const now = this.#options.registration();
    if (now.swarm !== this.#told?.swarm || now.isolation !== this.#told?.isolation) await this.#tellAll(client, now);
  }

  async #tellAll(client: RpcClient<AgentGatewayRouter>, told: AgentRegistration): Promise<RegistrationReply> {
    const reply = await client.api.register.mutate(told);
    this.#told = told;
    return reply;
  }

  async #tellImages(client: RpcClient<AgentGatewayRouter>): Promise<void> {
    const { agentId, images } = this.#options.registration();
    if (!this.#told || images === this.#told.images) return;
    await client.api.reportImages.mutate({ agentId, images });
    this.#told = { ...this.#told, images };
  }

  async #tellSlots(client: RpcClient<AgentGatewayRouter>): Promise<void> {
    const { registration, warmSlots, logger } = this.#options;
    try {
      while (this.#client === client && this.#slotsChanged) {
        this.#slotsChanged = false;
        await client.api.reportWarmSlots.mutate({ agentId: registration().agentId, slots: warmSlots() });
      }
    } catch (error) {
      // The manager asks for all of them with its next tick.
      logger.warn('warm slots could not be reported', failureFields(error));
    } finally {
      this.#tellingSlots = false;
    }
    if (this.#client && this.#client !== client && this.#slotsChanged) this.warmSlotsChanged();
  }

  /** In order, one call per cause, until nothing waits or the line is lost. */
  async #send(client: RpcClient<AgentGatewayRouter>): Promise<void> {
    const { outbox, registration, clock, logger } = this.#options;
    try {
      for (let failures = 0; this.#client === client && outbox.pending.length > 0; ) {
        const events = nextBatch(outbox.pending);
        const requestId = parseRequestId(events[0]?.requestId) ?? newRequestId();
        const acked = await runWithRequest({ requestId }, async () => {
          try {
            return (await client.api.reportEvents.mutate({ agentId: registration().agentId, events })).ackedSeq;
          } catch (error) {
            if (this.#client === client) logger.warn('events could not be reported', failureFields(error));
            return null;
          }
        });
        const before = outbox.pending[0]?.seq;
        if (acked !== null) outbox.acknowledge(acked);
        if (outbox.pending[0]?.seq !== before) failures = 0;
        else await delay(clock, backoffMs(failures++, reconnect), this.#stop.signal);
      }
    } finally {
      this.#sending = false;
    }
    // A new line may have come while the old one was being given up.
    if (this.#client && this.#client !== client) this.hint();
  }
}

function nextBatch(pending: readonly KernelEvent[]): KernelEvent[] {
  const cause = pending[0]?.requestId;
  const end = pending.findIndex((event) => event.requestId !== cause);
  return pending.slice(0, Math.min(largestBatch, end < 0 ? pending.length : end));
}
