import { allow, type MentionedAgents, type MentionedSessions, type UserActor } from '@backend.ai/contract';
import type { MentionedRecord } from '../../repositories/queue.ts';
import type { Mention } from './words.ts';

/**
 * What a user may see of an explanation. The scheduler knows everybody's sessions and all agents; ids of agents are for
 * those who may read agents, and sessions that the user may not read are only counted.
 */
export class Viewer {
  readonly #actor: UserActor;
  readonly #sessions: ReadonlyMap<string, MentionedRecord>;
  readonly #seesAgents: boolean;

  /** @param sessions All that the explanation speaks of and that are there. */
  constructor(actor: UserActor, sessions: ReadonlyMap<string, MentionedRecord>) {
    this.#actor = actor;
    this.#sessions = sessions;
    this.#seesAgents = allow(actor, 'agent:read', {});
  }

  agents(ids: readonly string[]): MentionedAgents {
    return this.#seesAgents ? ids : null;
  }

  agent(id: string): string | null {
    return this.#seesAgents ? id : null;
  }

  sessions(ids: readonly string[]): MentionedSessions {
    const known = ids.flatMap((id) => this.#find(id) ?? []);
    return { known: known.map(({ id, name }) => ({ id, name })), others: ids.length - known.length };
  }

  #find(sessionId: string): MentionedRecord | undefined {
    const found = this.#sessions.get(sessionId);
    return found && allow(this.#actor, 'session:read', found) ? found : undefined;
  }

  readonly mention: Mention = {
    agents: (ids) => this.agents(ids)?.join(', ') ?? (ids.length === 1 ? 'An agent' : `${ids.length} agents`),
    sessions: (ids) => {
      const { known, others } = this.sessions(ids);
      const rest = others === 0 ? [] : [others === 1 ? "another user's session" : `${others} sessions of others`];
      return [...known.map(({ name }) => name), ...rest].join(', ');
    },
  };
}
