import {
  type AgentReasonView,
  allow,
  type HelpfulChange,
  type MentionedAgents,
  type MentionedSessions,
  type PreemptionView,
  type Refusal,
  type UserActor,
  type WaitingCode,
  type WaitingExplanation,
  type WaitingReasonView,
} from '@backend.ai/contract';
import type {
  AgentExplanation,
  Change,
  Owner,
  PreemptionPreview,
  WaitingExplanation as SchedulerExplanation,
  Snapshot,
  WaitingReason,
} from '@backend.ai/scheduler';
import { changeText, type Mention, reasonSentence } from './words.ts';

type Same<A, B> = [A, B] extends [B, A] ? true : false;
type Assert<Claim extends true> = Claim;
/** Compiles only while the contract has the codes of the scheduler. */
export type SameCodes =
  | Assert<Same<WaitingCode, WaitingReason['code']>>
  | Assert<Same<HelpfulChange['kind'], Change['kind']>>;

/**
 * What a user may see of an explanation. The scheduler knows everybody's sessions and all agents; ids of agents are for
 * those who may read agents, and sessions that the user may not read are only counted.
 */
export class Viewer {
  readonly #actor: UserActor;
  readonly #owners: ReadonlyMap<string, Owner>;
  readonly #own: Owner;
  readonly #dependencies: ReadonlySet<string>;
  readonly #names: ReadonlyMap<string, string>;
  readonly #seesAgents: boolean;

  /** @param names Of sessions that `mentioned` finds */
  constructor(actor: UserActor, snapshot: Snapshot, sessionId: string, names: ReadonlyMap<string, string> = new Map()) {
    this.#actor = actor;
    this.#owners = new Map(
      [...snapshot.pending, ...snapshot.running].map((session) => [session.sessionId, session.owner]),
    );
    this.#own = this.#owners.get(sessionId)!;
    const session = snapshot.pending.find((other) => other.sessionId === sessionId);
    this.#dependencies = new Set(session?.dependencies?.map((dependency) => dependency.sessionId));
    this.#names = names;
    this.#seesAgents = allow(actor, 'agent:read', {});
  }

  agents(ids: readonly string[]): MentionedAgents {
    return this.#seesAgents ? ids : null;
  }

  agent(id: string): string | null {
    return this.#seesAgents ? id : null;
  }

  sessions(ids: readonly string[]): MentionedSessions {
    const known = ids.filter((id) => this.sees(id));
    return { known: known.map((id) => ({ id, name: this.#names.get(id) ?? id })), others: ids.length - known.length };
  }

  sees(sessionId: string): boolean {
    // Dependencies are of the same owner; those that have ended are not in the snapshot.
    const owner = this.#dependencies.has(sessionId) ? this.#own : this.#owners.get(sessionId);
    return owner !== undefined && allow(this.#actor, 'session:read', { userId: owner.user, domain: owner.domain });
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

/** Ids of sessions that an explanation speaks of. */
export function mentionedIn({ reasons, remedies, preemption }: SchedulerExplanation): string[] {
  const ids = [...reasons.map(({ data }) => data), ...remedies.flat()].flatMap((item) => [
    ...('sessions' in item ? (item.sessions ?? []) : []),
    ...('head' in item ? [item.head] : []),
  ]);
  return [...new Set([...ids, ...(preemption?.sessions ?? [])])];
}

export function toWaitingView(
  explained: SchedulerExplanation,
  viewer: Viewer,
  refusal: Refusal | null,
): WaitingExplanation {
  const { resourceGroup, policy, position, queueLength, priority, agents, preemption, estimate } = explained;
  return {
    resourceGroup,
    policy,
    position,
    queueLength,
    priority,
    reasons: explained.reasons.map((reason) => toReasonView(reason, viewer, refusal)),
    agents: {
      total: agents.total,
      open: agents.open,
      byObstacle: Object.entries(agents.byObstacle).map(([obstacle, count]) => ({
        obstacle: obstacle as keyof typeof agents.byObstacle,
        agents: count,
      })),
      nearest: agents.nearest.map((agent) => toAgentView(agent, viewer)),
    },
    ways: explained.remedies.map((remedy) => remedy.map((change) => toChangeView(change, viewer))),
    preemption: preemption && toPreemptionView(preemption, viewer),
    estimate: { at: estimate.at === null ? null : new Date(estimate.at).toISOString(), basis: estimate.basis },
  };
}

function toPreemptionView(preview: PreemptionPreview, viewer: Viewer): PreemptionView {
  const { mode, byNextPass, from, sessions, agents } = preview;
  return {
    mode,
    byNextPass,
    from: from === null ? null : new Date(from).toISOString(),
    sessions: viewer.sessions(sessions),
    agents: agents.map(({ agentId, placed, ended, sessions: there }) => {
      return { agent: viewer.agent(agentId), placed, ended, sessions: viewer.sessions(there) };
    }),
  };
}

function toAgentView({ agentId, obstacles, lacking }: AgentExplanation, viewer: Viewer): AgentReasonView {
  return { agent: viewer.agent(agentId), obstacles, lacking };
}

function toReasonView(reason: WaitingReason, viewer: Viewer, refusal: Refusal | null): WaitingReasonView {
  const message = reasonSentence(reason, viewer.mention, refusal?.message);
  switch (reason.code) {
    case 'agent-refused': {
      const { nextTryAt, agents } = reason.data;
      return { code: reason.code, message, data: { nextTryAt, agents: viewer.agents(agents), error: refusal } };
    }
    case 'designated-agent-unavailable':
      return { code: reason.code, message, data: { agents: viewer.agents(reason.data.agents) } };
    case 'dependency-unfinished':
    case 'dependency-failed':
      return { code: reason.code, message, data: { sessions: viewer.sessions(reason.data.sessions) } };
    case 'behind-head-of-line':
      return { code: reason.code, message, data: { head: viewer.sessions([reason.data.head]) } };
    default:
      return { ...reason, message };
  }
}

function toChangeView(change: Change, viewer: Viewer): HelpfulChange {
  const text = changeText(change, viewer.mention);
  switch (change.kind) {
    case 'wait-until': {
      const sessions = change.sessions ? { sessions: viewer.sessions(change.sessions) } : {};
      return { kind: change.kind, text, facts: { at: new Date(change.at).toISOString(), ...sessions } };
    }
    case 'wait-for-dependencies':
    case 'drop-dependencies':
    case 'wait-for-sessions':
      return { kind: change.kind, text, facts: { sessions: viewer.sessions(change.sessions) } };
    default: {
      const { kind, ...facts } = change;
      // What is left of a union does not know its kind any more.
      return { kind, text, facts } as HelpfulChange;
    }
  }
}
