import {
  type AgentGatewayRouter,
  type AgentGatewayService,
  type AgentRegistration,
  type AgentService,
  createAgentGatewayRouter,
  createAgentRouter,
  type IsolationReport,
  type KernelEvent,
  type KernelMeasurement,
  type KernelReport,
  type Metrics,
  procedureMetas,
  rpcVersions,
} from '@backend.ai/contract';
import { newId } from '@backend.ai/core';
import {
  createRpcClient,
  createRpcServer,
  generateIdentity,
  type PeerIdentity,
  pinnedKeys,
  type RpcClient,
  type RpcServer,
} from '@backend.ai/rpc';
import { type Logger, runWithRequest } from '@backend.ai/telemetry';

export const simulated: IsolationReport = {
  sandbox: 'simulated',
  ownUid: false,
  memory: 'none',
  processes: 'none',
  cpu: 'none',
  network: 'host',
};

export type UnnumberedEvent = KernelEvent extends infer E ? (E extends unknown ? Omit<E, 'seq' | 'at'> : never) : never;

export interface FakeAgentOptions {
  readonly id: string;
  readonly managerAddress: string;
  readonly managerKey: string;
  readonly token: string;
  readonly logger: Logger;
  readonly slots?: Record<string, string>;
  readonly images?: AgentRegistration['images'];
  readonly architecture?: string;
  readonly backend?: AgentRegistration['backend'];
  readonly enforcesEgress?: boolean;
  /** What managers reach in its place. */
  readonly link?: (service: AgentService) => AgentService;
  readonly features?: readonly string[];
  readonly swarm?: AgentRegistration['swarm'];
}

const gatewayMetas = procedureMetas(createAgentGatewayRouter({} as AgentGatewayService));
let names = 0;
const heartbeatMs = 250;

/**
 * The links of a simulated agent: what it says of itself and of its kernels, and how that is delivered, late, twice or
 * never.
 */
export abstract class FakeLink {
  readonly id: string;
  /** What its heartbeats tell of the use of kernels. */
  measurements: KernelMeasurement[] | undefined;
  /** Told with each heartbeat when set. */
  machine: Metrics | undefined;
  /** Events stay in the outbox while true. */
  holdEvents = false;
  /** Changed by `register`. */
  swarm: AgentRegistration['swarm'];
  protected bootId: string = newId();
  readonly #options: FakeAgentOptions;
  readonly #identity: PeerIdentity;
  #server: RpcServer | undefined;
  #client: RpcClient<AgentGatewayRouter> | undefined;
  #address = '';
  #seq = 0;
  #outbox: KernelEvent[] = [];
  readonly #delivered: KernelEvent[] = [];
  #oldHeartbeat: ReturnType<FakeLink['takeHeartbeat']> | undefined;
  #flushing: Promise<void> | undefined;
  #token: string | undefined;
  #stopBeating: (() => void) | undefined;

  constructor(options: FakeAgentOptions) {
    this.id = options.id;
    this.#options = options;
    this.#identity = generateIdentity('agent', options.id);
    this.#token = options.token;
    this.swarm = options.swarm;
  }

  /** What managers reach unless `link` says otherwise. */
  protected abstract readonly service: AgentService;
  protected abstract reports(): KernelReport[];
  protected abstract loseKernels(): void;
  /** The manager knows nothing of these kernels. */
  protected abstract forget(kernelIds: readonly string[]): void;

  get publicKey(): string {
    return this.#identity.publicKey;
  }

  get registration(): AgentRegistration {
    const architecture = this.#options.architecture ?? 'x86_64';
    return {
      agentId: this.id,
      bootId: this.bootId,
      rpcVersion: rpcVersions.beginBatch,
      version: '0.1.0',
      architecture,
      resourceGroup: 'default',
      backend: this.#options.backend ?? 'fake',
      address: this.#address,
      dataAddress: '127.0.0.1:1',
      slots: this.#options.slots ?? { cpu: '4', mem: '4294967296' },
      images: this.#options.images ?? [
        {
          name: 'local/python:3.11',
          aliases: ['python:3.11', 'python'],
          architecture,
          language: 'python',
          minSlots: { cpu: '1', mem: '67108864' },
        },
      ],
      isolation: { ...simulated, egress: this.#options.enforcesEgress ? 'enforced' : 'open' },
      features: [...(this.#options.features ?? [])],
      ...(this.swarm ? { swarm: this.swarm } : {}),
    };
  }

  get isUp(): boolean {
    return this.#client !== undefined;
  }

  get api(): RpcClient<AgentGatewayRouter>['api'] {
    if (!this.#client) throw new Error('the fake agent is down');
    return this.#client.api;
  }

  /** Serves, joins, registers and tells the truth once. */
  async start(managerAddress = this.#options.managerAddress): Promise<void> {
    const { managerKey, logger, link } = this.#options;
    names += 1;
    this.#server = createRpcServer({
      router: createAgentRouter(link?.(this.service) ?? this.service),
      identity: this.#identity,
      directory: pinnedKeys('manager', [managerKey]),
      allow: ['manager'],
      logger,
    });
    this.#address = this.#server.listenInProcess(`fake-agent-${names}`).address;
    this.#client = createRpcClient<AgentGatewayRouter>({
      address: managerAddress,
      identity: this.#identity,
      serverKeys: [managerKey],
      ...(this.#token === undefined ? {} : { token: this.#token }),
      metas: gatewayMetas,
      logger,
    });
    await this.inRequest(async () => {
      const { ackedSeq } = await this.api.register.mutate(this.registration);
      this.#token = undefined;
      this.#outbox = this.#outbox.filter((event) => event.seq > ackedSeq);
      this.#seq = Math.max(this.#seq, ackedSeq);
    });
    await this.flush();
    await this.heartbeat();
    const beat = (): Promise<void> => this.heartbeat().then(() => this.flush());
    const timer = setInterval(() => void beat().catch(() => {}), heartbeatMs);
    this.#stopBeating = () => clearInterval(timer);
  }

  /** Goes away; kernels stay, or die with it. */
  async stop(options: { loseKernels?: boolean } = {}): Promise<void> {
    const [server, client] = [this.#server, this.#client];
    this.#server = undefined;
    this.#client = undefined;
    this.#stopBeating?.();
    await client?.close();
    await server?.close({ graceMs: 0 });
    if (options.loseKernels) this.loseKernels();
    this.bootId = newId();
  }

  async heartbeat(): Promise<string[]> {
    const { unknownKernels } = await this.inRequest(() => this.api.heartbeat.mutate(this.takeHeartbeat()));
    this.forget(unknownKernels);
    return unknownKernels;
  }

  /** Tells what it offers once more. */
  async register(): Promise<void> {
    await this.inRequest(() => this.api.register.mutate(this.registration));
  }

  takeHeartbeat() {
    return {
      agentId: this.id,
      bootId: this.bootId,
      kernels: this.reports(),
      lastEventSeq: this.#seq,
      ...(this.measurements ? { measurements: this.measurements } : {}),
      ...(this.machine ? { machine: this.machine } : {}),
    };
  }

  /** Delivers what is in the outbox. */
  async flush(): Promise<void> {
    while (this.#flushing) await this.#flushing;
    if (this.holdEvents || !this.#client || this.#outbox.length === 0) return;
    const client = this.#client;
    const events = this.#outbox.slice(0, 500);
    this.#flushing = this.inRequest(() => client.api.reportEvents.mutate({ agentId: this.id, events }))
      .then(({ ackedSeq }) => {
        this.#delivered.push(...this.#outbox.filter((event) => event.seq <= ackedSeq));
        this.#outbox = this.#outbox.filter((event) => event.seq > ackedSeq);
      })
      .catch(() => {})
      .finally(() => {
        this.#flushing = undefined;
      });
    await this.#flushing;
    if (this.#outbox.length > 0 && this.#client === client) await new Promise((resolve) => setImmediate(resolve));
    if (this.#outbox.length > 0 && this.#client === client) await this.flush();
  }

  /** What was delivered arrives once more, as after a lost answer. */
  async repeatEvents(): Promise<void> {
    const events = this.#delivered.slice(-50);
    if (events.length > 0) await this.inRequest(() => this.api.reportEvents.mutate({ agentId: this.id, events }));
  }

  /** An old heartbeat arrives late. */
  async repeatHeartbeat(): Promise<void> {
    const heartbeat = this.#oldHeartbeat;
    this.#oldHeartbeat = this.takeHeartbeat();
    if (heartbeat) await this.inRequest(() => this.api.heartbeat.mutate(heartbeat));
  }

  /** What was not delivered never will be, as after the loss of its disk; it goes on as if it had been. */
  loseEvents(): void {
    this.#seq -= this.#outbox.length;
    this.#outbox = [];
  }

  get outbox(): readonly KernelEvent[] {
    return this.#outbox;
  }

  protected push(event: UnnumberedEvent): void {
    this.#seq += 1;
    this.#outbox.push({ ...event, seq: this.#seq, at: new Date().toISOString() } as KernelEvent);
    void this.flush();
  }

  protected inRequest<T>(work: () => Promise<T>): Promise<T> {
    return runWithRequest({ requestId: newId() }, work);
  }
}
