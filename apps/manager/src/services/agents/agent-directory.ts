import type { EventBus } from '@backend.ai/coordination';
import type { BackgroundTasks } from '@backend.ai/telemetry';
import type { ManagerEvents } from '../../events.ts';
import type { AgentRecord, AgentRepository } from '../../repositories/agents.ts';
import { KnownAgents } from './known-agents.ts';

/**
 * The agents as this process knows them: read again after somebody said that they changed, and by everybody who calls
 * `reload`. What they have in use is kept by the scheduler alone.
 */
export class AgentDirectory {
  readonly #agents: AgentRepository;
  readonly #bus: EventBus<ManagerEvents>;
  readonly #tasks: BackgroundTasks;
  readonly #listeners = new Set<(agentId: string) => void>();
  #known: Promise<KnownAgents> | undefined;
  #stopListening: (() => void) | undefined;

  constructor(agents: AgentRepository, bus: EventBus<ManagerEvents>, tasks: BackgroundTasks) {
    this.#agents = agents;
    this.#bus = bus;
    this.#tasks = tasks;
  }

  start(): void {
    this.#stopListening ??= this.#bus.listen(['agents-changed'], (event) => this.#changed(event.payload.agentId));
  }

  stop(): void {
    this.#stopListening?.();
    this.#stopListening = undefined;
  }

  async list(): Promise<readonly AgentRecord[]> {
    return (await this.#load()).list;
  }

  known(): Promise<KnownAgents> {
    return this.#load();
  }

  async find(agentId: string): Promise<AgentRecord | undefined> {
    return (await this.#load()).byId.get(agentId) ?? (await this.reload()).byId.get(agentId);
  }

  reload(): Promise<KnownAgents> {
    this.#known = undefined;
    return this.#load();
  }

  /** Tells this process at once, and others over the bus. */
  announce(agentId: string): void {
    this.#changed(agentId);
    this.#tasks.start('publish agent change', async () => {
      await this.#bus.publish('agents-changed', { agentId });
    });
  }

  onChange(listener: (agentId: string) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #changed(agentId: string): void {
    this.#known = undefined;
    for (const listener of [...this.#listeners]) listener(agentId);
  }

  #load(): Promise<KnownAgents> {
    if (!this.#known) {
      const loading = this.#agents.list().then((records) => new KnownAgents(records));
      this.#known = loading;
      loading.catch(() => {
        if (this.#known === loading) this.#known = undefined;
      });
    }
    return this.#known;
  }
}
