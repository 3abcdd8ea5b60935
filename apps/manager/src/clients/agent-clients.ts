import { type AgentRouter, type AgentService, createAgentRouter, procedureMetas } from '@backend.ai/contract';
import { AppError, type Clock, delay, hasCode } from '@backend.ai/core';
import { createRpcClient, type JoiningPeer, type PeerIdentity, type RpcClient } from '@backend.ai/rpc';
import type { Logger } from '@backend.ai/telemetry';

export type AgentApi = RpcClient<AgentRouter>['api'];

/** Where an agent is, and the key it proves itself with. */
export interface AgentContact {
  readonly address: string | null;
  readonly publicKey: string;
  readonly rpcVersion: number;
}

export interface AgentClientsOptions {
  readonly identity: PeerIdentity;
  /** Undefined: no such agent, or it was revoked. */
  readonly contactOf: (agentId: string) => Promise<AgentContact | undefined>;
  readonly logger: Logger;
  readonly clock: Clock;
}

const connectMs = 3_000;

interface Entry {
  readonly contact: AgentContact;
  readonly client: RpcClient<AgentRouter>;
}

// Only what the procedures declare is read; no procedure of this router ever runs.
const metas = procedureMetas(createAgentRouter({} as AgentService));

/** One connection per agent, dialled when first needed. */
export class AgentClients {
  readonly #options: AgentClientsOptions;
  readonly #entries = new Map<string, Entry>();
  /** Looked up again after the agent said hello. */
  readonly #stale = new Set<string>();
  #closed = false;

  constructor(options: AgentClientsOptions) {
    this.#options = options;
  }

  /**
   * Runs calls against an agent.
   * @throws AppError `agent-unreachable` when it cannot be reached or is shutting down; otherwise what the agent answered,
   * or `deadline-exceeded` when the outcome is unknown
   */
  async call<T>(agentId: string, work: (api: AgentApi) => Promise<T>): Promise<T> {
    const client = await this.#clientFor(agentId);
    try {
      if (client.state !== 'ready') await this.#connect(client);
      return await work(client.api);
    } catch (error) {
      const lost = hasCode(error, 'connection-lost', 'server-unreachable', 'peer-rejected', 'shutting-down');
      const late = hasCode(error, 'deadline-exceeded') && client.state !== 'ready';
      if (lost || late) throw unreachable(agentId, error);
      throw error;
    }
  }

  /** Whoever waits for an agent wants to know soon that it is not there, not after the deadline of their call. */
  async #connect(client: RpcClient<AgentRouter>): Promise<void> {
    const late = new AbortController();
    const tooLate = delay(this.#options.clock, connectMs, late.signal).then(() => {
      if (!late.signal.aborted) throw new AppError('server-unreachable', 'The agent does not answer.');
    });
    await Promise.race([client.connect(), tooLate]).finally(() => late.abort());
  }

  /** It registered: its address or key may be new. */
  refresh(agentId: string): void {
    this.#stale.add(agentId);
  }

  /** For agents that registered through another manager, which may never be heard of. */
  refreshMoved(agents: ReadonlyMap<string, Pick<AgentContact, 'address' | 'rpcVersion'>>): void {
    for (const [id, { contact }] of this.#entries) {
      const agent = agents.get(id);
      if (agent?.address !== contact.address || agent.rpcVersion !== contact.rpcVersion) this.refresh(id);
    }
  }

  /** Ends the connections to agents that are not known any more, or by another key now. */
  cutPeers(isKnown: (peer: JoiningPeer) => boolean): void {
    for (const [id, { contact }] of this.#entries) {
      if (!isKnown({ kind: 'agent', id, publicKey: contact.publicKey })) this.#drop(id);
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    const entries = [...this.#entries.values()];
    this.#entries.clear();
    await Promise.all(entries.map(({ client }) => client.close()));
  }

  #drop(agentId: string): void {
    const entry = this.#entries.get(agentId);
    this.#entries.delete(agentId);
    void entry?.client.close();
  }

  async #clientFor(agentId: string): Promise<RpcClient<AgentRouter>> {
    const present = this.#entries.get(agentId);
    if (present && !this.#stale.has(agentId)) return present.client;
    this.#stale.delete(agentId);
    const contact = await this.#options.contactOf(agentId);
    if (this.#closed) throw new AppError('shutting-down', 'The manager is shutting down.');
    if (!contact?.address) throw unreachable(agentId);
    // Looked up twice at the same time: the first one stays.
    const current = this.#entries.get(agentId);
    if (current && sameContact(current.contact, contact)) return current.client;
    if (current) this.#drop(agentId);
    const { identity, logger, clock } = this.#options;
    const client = createRpcClient<AgentRouter>({
      address: contact.address,
      identity,
      serverKeys: [contact.publicKey],
      metas,
      peerRpcVersion: contact.rpcVersion,
      logger,
      clock,
    });
    this.#entries.set(agentId, { contact, client });
    return client;
  }
}

function sameContact(a: AgentContact, b: AgentContact): boolean {
  return a.address === b.address && a.publicKey === b.publicKey && a.rpcVersion === b.rpcVersion;
}

function unreachable(agentId: string, cause?: unknown): AppError {
  return new AppError('agent-unreachable', `The agent ${agentId} cannot be reached now.`, {
    data: { agent: agentId },
    cause,
  });
}
