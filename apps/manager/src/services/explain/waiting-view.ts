import type {
  AgentReasonView,
  HelpfulChange,
  PreemptionView,
  Refusal,
  WaitingCode,
  WaitingExplanation,
  WaitingReasonView,
} from '@backend.ai/contract';
import type {
  AgentExplanation,
  Change,
  PreemptionPreview,
  WaitingExplanation as SchedulerExplanation,
  WaitingReason,
} from '@backend.ai/scheduler';
import type { Viewer } from './viewer.ts';
import { changeText, reasonSentence } from './words.ts';

type Same<A, B> = [A, B] extends [B, A] ? true : false;
type Assert<Claim extends true> = Claim;
/** Compiles only while the contract has the codes of the scheduler. */
export type SameCodes =
  | Assert<Same<WaitingCode, WaitingReason['code']>>
  | Assert<Same<HelpfulChange['kind'], Change['kind']>>;

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
