import type { SessionStatus } from '@backend.ai/core';
import type { Logger } from '@backend.ai/telemetry';

/** What managers tell each other over the event bus: hints, because reconcilers find out anyway. */
export type ManagerEvents = {
  'session-changed': SessionChange;
  'agents-changed': { readonly agentId: string };
  /** Whatever is remembered of domains, projects, users and key pairs may be wrong now. */
  'tenants-changed': Record<string, never>;
  /** What registries have, or names that administrators gave, may be another now. */
  'images-changed': Record<string, never>;
  /** What the scheduler goes by may be wrong now: options of resource groups, limits of policies. */
  'rules-changed': Record<string, never>;
  /** Warm pools are wished otherwise, or their slots are not what they were. */
  'warm-pools-changed': Record<string, never>;
};

/** A session moved, or (with equal `from` and `to`) the reason of its state or one of its kernels did. */
export interface SessionChange {
  readonly sessionId: string;
  readonly kernelId: string;
  readonly agentId: string | null;
  readonly name: string;
  readonly accessKey: string;
  /** Null: it was created. */
  readonly from: SessionStatus | null;
  readonly to: SessionStatus;
  readonly reason: string;
  /** It counts as ended although its agents have not said so, and may not even have been told. */
  readonly forced?: true;
}

/** Business events as log records, one function each: the messages are constant, for people and for searches. */
export class BusinessLog {
  readonly #logger: Logger;

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  sessionCreated(change: SessionChange): void {
    this.#logger.info('session created', fieldsOf(change));
  }

  sessionMoved(change: SessionChange): void {
    this.#logger.info('session changed state', { ...fieldsOf(change), from: change.from, to: change.to });
  }

  /** One of its kernels moved, or it has another name. */
  sessionTouched(change: SessionChange): void {
    this.#logger.info('session changed within its state', { ...fieldsOf(change), in: change.to });
  }

  sessionWaits(change: SessionChange): void {
    this.#logger.info('session waits', fieldsOf(change));
  }

  callbackTold(change: SessionChange): void {
    this.#logger.debug('callback told', { ...fieldsOf(change), to: change.to });
  }

  callbackDropped(change: SessionChange, error: unknown): void {
    this.#logger.warn('callback could not be told', { ...fieldsOf(change), to: change.to, error });
  }

  agentRegistered(agentId: string, fields: { bootId: string; backend: string; resourceGroup: string }): void {
    this.#logger.info('agent registered', { agent_id: agentId, ...fields });
  }

  imageRefused(agentId: string, issues: readonly { readonly path: PropertyKey[]; readonly message: string }[]): void {
    const problems = issues.map(({ path, message }) => `${path.join('.')}: ${message}`);
    this.#logger.warn('agent offers an image that cannot be used', { agent_id: agentId, problems });
  }

  agentLost(agentId: string): void {
    this.#logger.warn('agent lost', { agent_id: agentId });
  }

  agentBack(agentId: string): void {
    this.#logger.info('agent is back', { agent_id: agentId });
  }

  kernelsUnknown(agentId: string, kernelIds: readonly string[]): void {
    this.#logger.warn('agent has kernels that are not its own', { agent_id: agentId, kernel_ids: kernelIds });
  }

  absenceUnproved(agentId: string, kernelId: string, error: unknown): void {
    this.#logger.warn('kernel missing in a heartbeat, and not known to be gone', {
      agent_id: agentId,
      kernel_id: kernelId,
      error,
    });
  }

  startRefused(kernelId: string, agentId: string, error: unknown): void {
    this.#logger.warn('agent refused a kernel', { kernel_id: kernelId, agent_id: agentId, error });
  }

  startUnknown(kernelId: string, agentId: string, error: unknown): void {
    this.#logger.warn('outcome of a kernel start unknown', { kernel_id: kernelId, agent_id: agentId, error });
  }

  destroyFailed(kernelId: string, agentId: string, error: unknown): void {
    this.#logger.warn('kernel end could not be asked for', { kernel_id: kernelId, agent_id: agentId, error });
  }

  batchNotBegun(kernelId: string, agentId: string, error: unknown): void {
    this.#logger.warn('batch job could not be begun', { kernel_id: kernelId, agent_id: agentId, error });
  }

  peerJoined(kind: string, peerId: string): void {
    this.#logger.info('peer joined', { peer_kind: kind, peer_id: peerId });
  }

  peerRevoked(peerId: string): void {
    this.#logger.info('peer revoked', { peer_id: peerId });
  }

  managerRevoked(managerId: string): void {
    this.#logger.error('this manager has been revoked: it does not lead any more', { manager_id: managerId });
  }

  installationCreated(accessKey: string): void {
    this.#logger.info('installation created', { access_key: accessKey });
  }

  historyCleared(count: number, olderThanMs: number): void {
    this.#logger.info('history cleared', { count, older_than_ms: olderThanMs });
  }

  sessionsVacuumed(count: number, olderThanMs: number): void {
    this.#logger.info('sessions vacuumed', { count, older_than_ms: olderThanMs });
  }

  leading(epoch: number): void {
    this.#logger.info('this manager leads', { epoch });
  }
}

function fieldsOf(change: SessionChange): Record<string, unknown> {
  return {
    session_id: change.sessionId,
    session_name: change.name,
    access_key: change.accessKey,
    reason: change.reason,
    ...(change.agentId === null ? {} : { agent_id: change.agentId }),
  };
}
