import type { UserActor } from '@backend.ai/contract';
import type { Clock } from '@backend.ai/core';
import type { SessionRecord } from '../../repositories/session-rows.ts';

/** Where calls about a running session go. */
export interface RunningKernel {
  readonly sessionId: string;
  readonly kernelId: string;
  readonly agentId: string;
}

/** A change made elsewhere may be heard late or never; after this it is looked up again anyway. */
const keptMs = 5_000;
const mostKept = 10_000;

/**
 * Remembers who meant which running kernel by which reference, so that a call inside a session needs no query. Any
 * change of the session makes it forget. It may be wrong all the same when another manager changed something: the agent
 * then does not know the kernel, and whoever asked looks again.
 */
export class RunningKernels {
  readonly #clock: Clock;
  readonly #kept = new Map<string, { readonly kernel: RunningKernel; readonly until: number }>();
  /** By session: the references that lead to it. */
  readonly #references = new Map<string, Set<string>>();
  /** Sessions that changed while a reference was being looked up, for each look under way. */
  readonly #looks = new Set<Set<string>>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  recall(ref: string, actor: UserActor): RunningKernel | undefined {
    const kept = this.#kept.get(keyOf(ref, actor));
    return kept && kept.until > this.#clock.monotonic() ? kept.kernel : undefined;
  }

  /** Passes on what `look` finds, and remembers it if it runs and did not change meanwhile. */
  async learn(ref: string, actor: UserActor, look: () => Promise<SessionRecord>): Promise<SessionRecord> {
    const changed = new Set<string>();
    this.#looks.add(changed);
    try {
      const session = await look();
      const kernel = session.kernels[0];
      if (session.status === 'RUNNING' && kernel?.agentId && !changed.has(session.id)) {
        this.#keep(keyOf(ref, actor), { sessionId: session.id, kernelId: kernel.id, agentId: kernel.agentId });
      }
      return session;
    } finally {
      this.#looks.delete(changed);
    }
  }

  forget(sessionId: string): void {
    for (const changed of this.#looks) changed.add(sessionId);
    for (const key of this.#references.get(sessionId) ?? []) this.#kept.delete(key);
    this.#references.delete(sessionId);
  }

  #keep(key: string, kernel: RunningKernel): void {
    const before = this.#kept.get(key);
    if (before && before.kernel.sessionId !== kernel.sessionId) this.forget(before.kernel.sessionId);
    if (this.#kept.size >= mostKept) {
      const [oldest] = this.#kept.values();
      if (oldest) this.forget(oldest.kernel.sessionId);
    }
    this.#kept.set(key, { kernel, until: this.#clock.monotonic() + keptMs });
    const references = this.#references.get(kernel.sessionId) ?? new Set();
    this.#references.set(kernel.sessionId, references.add(key));
  }
}

/** The same reference means another session for somebody else. */
function keyOf(ref: string, actor: UserActor): string {
  return `${actor.accessKey} ${actor.role} ${ref}`;
}
