import { amountForPeople, amountFromText } from '@backend.ai/core';
import type { Change, WaitingReason } from '@backend.ai/scheduler';

/** How the scheduler's findings are told to people. */

/** What of sessions and agents may be told, in a few words. */
export interface Mention {
  readonly sessions: (ids: readonly string[]) => string;
  readonly agents: (ids: readonly string[]) => string;
}

/** For operators, who see everything. */
export const byId: Mention = { sessions: (ids) => ids.join(', '), agents: (ids) => ids.join(', ') };

/**
 * One sentence with the figures.
 * @param refusal What the agent said that refused last, where that is known
 */
export function reasonSentence(reason: WaitingReason, mention: Mention, refusal?: string): string {
  switch (reason.code) {
    case 'agent-refused': {
      const { agents, nextTryAt } = reason.data;
      const why = refusal === undefined ? '.' : `: ${refusal}`;
      return `${agents.length > 0 ? mention.agents(agents) : 'An agent'} refused it${why} It is tried again at ${nextTryAt}.`;
    }
    case 'starts-later':
      return `It is not to start before ${reason.data.startsAt}.`;
    case 'dependency-unfinished':
      return `It starts once ${mention.sessions(reason.data.sessions)} ended with success.`;
    case 'dependency-failed':
      return `It depends on ${mention.sessions(reason.data.sessions)}, which did not end with success.`;
    case 'quota-exceeded':
      return reason.data.violations.map(violationSentence).join(' ');
    case 'no-agent':
      return `The resource group ${reason.data.resourceGroup} has no agent.`;
    case 'no-agent-alive':
      return `No agent of the resource group ${reason.data.resourceGroup} is reachable and open for sessions.`;
    case 'no-agent-enforces-egress':
      return `No reachable agent can enforce the egress policy of the resource group ${reason.data.resourceGroup}: that takes containers and a firewall.`;
    case 'no-agent-of-architecture':
      return `No reachable agent of its resource group has the architecture ${reason.data.architecture}.`;
    case 'no-agent-with-image':
      return `No reachable agent of its resource group offers ${reason.data.image} for ${reason.data.architecture}.`;
    case 'designated-agent-unavailable':
      return `It has to be on ${mention.agents(reason.data.agents)}, which cannot take it.`;
    case 'exceeds-agents':
      return `It asks for more than any agent has at all${lackingText(reason.data.lacking, '')}.`;
    case 'insufficient-resources':
      return `No agent has enough free${lackingText(reason.data.lacking, ' free')}.`;
    case 'kernel-limit-reached':
      return `Every agent that could take it holds as many kernels as it may: ${reason.data.limit}.`;
    case 'no-common-network':
      return `No agents of the resource group ${reason.data.resourceGroup} have room for all of its kernels and a network in common: containers on several machines need engines of one swarm, a manager of which has an agent.`;
    case 'behind-head-of-line':
      return `It may not overtake ${mention.sessions([reason.data.head])}, which waits for resources.`;
    case 'pending-timeout':
      return `It waited longer than the resource group ${reason.data.resourceGroup} allows, and is given up.`;
  }
}

/** Completes "It would start …". */
export function changeText(change: Change, mention: Mention): string {
  switch (change.kind) {
    case 'wait-until':
      return change.sessions
        ? `once it is ${isoOf(change.at)}, from when on ${mention.sessions(change.sessions)} may be made to leave for it`
        : `once it is ${isoOf(change.at)}`;
    case 'wait-for-dependencies':
      return `once ${mention.sessions(change.sessions)} ended with success`;
    case 'drop-dependencies':
      return `without its dependency on ${mention.sessions(change.sessions)}`;
    case 'raise-quota':
      return `if the ${scopeText(change)} may have ${amountText(change.slot, change.to)} (now ${amountText(change.slot, change.limit)})`;
    case 'go-first':
      return `with priority ${change.priority}`;
    case 'wait-for-queue':
      return change.ahead === 1
        ? 'once the session before it is gone'
        : `once the ${change.ahead} sessions before it are gone`;
    case 'wait-for-sessions':
      return `once ${mention.sessions(change.sessions)} ended`;
    case 'reduce-request':
      return `if it asked for ${amountText(change.slot, change.to)} instead of ${amountText(change.slot, change.from)}`;
    case 'add-agent': {
      const { count, architecture, images, slots } = change;
      const amounts = Object.entries(slots).map(([slot, amount]) => amountText(slot, amount));
      const agents = count === 1 ? `one more ${architecture} agent` : `${count} more ${architecture} agents`;
      return `with ${agents} with ${amounts.join(' and ')} that offer${count === 1 ? 's' : ''} ${images.map(imageOf).join(', ')}`;
    }
    case 'drop-designation':
      return 'on any agent instead of those that it names';
    case 'raise-kernel-limit':
      return `if an agent might hold ${change.to} kernels`;
  }
}

const isoOf = (at: number): string => new Date(at).toISOString();

/** `4 cpu`, `512m mem`, `2 sessions`. */
export function amountText(slot: string, amount: string): string {
  if (slot === 'sessions' || slot === 'private-sessions') {
    const noun = slot === 'sessions' ? 'session' : 'session of the system';
    return amount === '1' ? `1 ${noun}` : `${amount} ${noun.replace('session', 'sessions')}`;
  }
  return `${amountForPeople(slot, amountFromText(amount))} ${slot}`;
}

type Violation = Extract<WaitingReason, { code: 'quota-exceeded' }>['data']['violations'][number];

function violationSentence(violation: Violation): string {
  const { slot, asked, used, limit } = violation;
  const scope = scopeText(violation);
  const holds = `The ${scope} may have ${amountText(slot, limit)} and has ${amountText(slot, used)}`;
  return `${holds}; this asks for ${amountText(slot, asked)}.`;
}

function scopeText({ scope, id }: Pick<Violation, 'scope' | 'id'>): string {
  // Ids of users and projects say nothing to people.
  if (scope === 'keypair') return `key pair ${id}`;
  return scope === 'domain' ? `domain ${id}` : scope;
}

function lackingText(
  lacking: Readonly<Record<string, { readonly asked: string; readonly mostFree: string }>>,
  free: string,
): string {
  const parts = Object.entries(lacking).map(
    ([slot, { asked, mostFree }]) => `${amountText(slot, asked)} asked, at most ${amountText(slot, mostFree)}${free}`,
  );
  return parts.length === 0 ? '' : `: ${parts.join('; ')}`;
}

/** Keys of images begin with the architecture. */
function imageOf(key: string): string {
  return key.slice(key.indexOf(' ') + 1);
}
