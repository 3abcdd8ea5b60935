import { addSlots, fits, type ResourceSlots, subtractSlots } from '@backend.ai/core';
import { fairShareFactor, normalisedUsage } from '../fair-share.ts';
import { slotOrder } from '../selection.ts';
import {
  type AgentSnapshot,
  type Dependency,
  imageKey,
  type KernelRequest,
  type Owner,
  type PendingSession,
  quotaScopes,
  type ResourceGroup,
  type Snapshot,
  type WarmSlot,
} from '../snapshot.ts';

/**
 * The rules of the scheduler as directly as they can be written: exact amounts, everything looked at anew for each decision.
 * What tests and the benchmark compare with. Without preemption, backfilling and rounding.
 */
export function naiveSchedule(snapshot: Snapshot): NaivePlan {
  const state: State = {
    snapshot,
    free: new Map(
      snapshot.agents.map((a) => [a.id, subtractSlots(subtractSlots(a.capacity, a.used), a.reserved ?? {})]),
    ),
    kernels: new Map(snapshot.agents.map((a) => [a.id, a.kernelCount ?? 0])),
    held: snapshot.running.map(({ owner, kernels, resourceGroup, ...session }) => ({
      owner,
      resourceGroup,
      private: session.private ?? false,
      slots: sum(kernels.map((kernel) => kernel.slots)),
    })),
    next: new Map(),
    warm: new Map(snapshot.agents.map((a) => [a.id, [...(a.warmSlots ?? [])]])),
  };
  const placed: NaivePlan['placed'] = [];
  const codes = new Map<string, string>();
  const heads = new Set<string>();
  const left = [...snapshot.pending];
  while (left.length > 0) {
    const session = first(left, state);
    left.splice(left.indexOf(session), 1);
    const code = validate(session, state) ?? suitability(session, state);
    if (code) {
      codes.set(session.sessionId, code);
      continue;
    }
    if (heads.has(session.resourceGroup)) {
      codes.set(session.sessionId, 'behind-head-of-line');
      continue;
    }
    const prefersAgents = session.designated?.mode === 'preferred';
    const beside = takeSlot(session, state) ?? (prefersAgents ? undefined : place(session, state, true));
    const outcome = typeof beside === 'object' ? beside : place(session, state);
    if (typeof outcome === 'object') {
      placed.push([session.sessionId, ...outcome]);
      const slots = sum(session.kernels.map((kernel) => kernel.slots));
      state.held.push({
        owner: session.owner,
        resourceGroup: session.resourceGroup,
        private: session.private ?? false,
        slots,
      });
      continue;
    }
    const alone = place(session, emptied(state));
    if (typeof alone === 'object') {
      codes.set(session.sessionId, outcome);
      heads.add(session.resourceGroup);
    } else codes.set(session.sessionId, alone === 'no-common-network' ? alone : 'exceeds-agents');
  }
  return { placed, codes };
}

export interface NaivePlan {
  /** Session, then the agent of each kernel. */
  readonly placed: string[][];
  /** Why each of the others waits. */
  readonly codes: Map<string, string>;
}

interface State {
  readonly snapshot: Snapshot;
  readonly free: Map<string, ResourceSlots>;
  readonly kernels: Map<string, number>;
  readonly held: Array<{ owner: Owner; resourceGroup: string; private: boolean; slots: ResourceSlots }>;
  readonly next: Map<string, number>;
  /** Of each agent, those that nobody took. */
  readonly warm: Map<string, WarmSlot[]>;
}

const sum = (all: readonly ResourceSlots[]): ResourceSlots => all.reduce((a, b) => addSlots(a, b), {});
const groupOf = (state: State, name: string): ResourceGroup =>
  state.snapshot.groups.find((group) => group.name === name) ?? { name };
const nonZero = (slots: ResourceSlots): ResourceSlots =>
  Object.fromEntries(Object.entries(slots).filter(([, amount]) => amount > 0n));

function emptied(state: State): State {
  return {
    ...state,
    free: new Map(state.snapshot.agents.map((agent) => [agent.id, agent.capacity])),
    kernels: new Map(),
    next: new Map(),
    warm: new Map(),
  };
}

function capacityOf(state: State, name: string): ResourceSlots {
  const agents = state.snapshot.agents.filter((a) => a.resourceGroup === name && a.status === 'ALIVE');
  return sum(agents.map((agent) => agent.capacity));
}

function first(left: readonly PendingSession[], state: State): PendingSession {
  return left.reduce((best, other) => (before(other, best, state) < 0 ? other : best));
}

function before(a: PendingSession, b: PendingSession, state: State): number {
  const byName = a.resourceGroup < b.resourceGroup ? -1 : a.resourceGroup > b.resourceGroup ? 1 : 0;
  const [first, second] = [standing(a, state), standing(b, state)];
  if (first !== second || byName !== 0) return second - first || byName;
  if ((groupOf(state, a.resourceGroup).scheduler ?? 'fifo') !== 'drf') return compareEquals(a, b, state);
  return share(a, state) - share(b, state) || compareEquals(a, b, state);
}

/** One that gave up keeps its place while another waits that asked for the same priority and comes after it. */
function standing(session: PendingSession, state: State): number {
  const { priority, requestedPriority = priority } = session;
  const equals = state.snapshot.pending.filter(
    (other) =>
      other.resourceGroup === session.resourceGroup &&
      other.priority === requestedPriority &&
      (other.requestedPriority ?? 0) <= other.priority,
  );
  const isKept = equals.some((other) => compareEquals(session, other, state) < 0);
  return isKept ? requestedPriority : priority;
}

function compareEquals(a: PendingSession, b: PendingSession, state: State): number {
  const arrival = a.createdAt - b.createdAt || (a.sessionId < b.sessionId ? -1 : 1);
  const { scheduler = 'fifo' } = groupOf(state, a.resourceGroup);
  if (scheduler === 'lifo') return -arrival;
  if (scheduler === 'fair-share') {
    for (const scope of ['domain', 'project', 'user'] as const) {
      const difference = factor(b, scope, state) - factor(a, scope, state);
      if (difference !== 0) return difference;
    }
  }
  return arrival;
}

function factor(session: PendingSession, scope: 'domain' | 'project' | 'user', state: State): number {
  const { fairShare = {} } = groupOf(state, session.resourceGroup);
  const entry = state.snapshot.fairShares.find(
    (usage) =>
      usage.resourceGroup === session.resourceGroup && usage.scope === scope && usage.id === session.owner[scope],
  );
  if (!entry) return 0;
  const capacity = capacityOf(state, session.resourceGroup);
  return fairShareFactor(
    normalisedUsage(entry.usage, capacity, fairShare),
    entry.weight ?? fairShare.defaultWeight ?? 1,
  );
}

function share(session: PendingSession, state: State): number {
  const capacity = capacityOf(state, session.resourceGroup);
  const mine = state.held.filter(
    (held) => held.owner.user === session.owner.user && held.resourceGroup === session.resourceGroup && !held.private,
  );
  const total = sum(mine.map((held) => held.slots));
  return Math.max(
    0,
    ...Object.entries(capacity).map(([slot, all]) => (all > 0n ? Number(total[slot] ?? 0n) / Number(all) : 0)),
  );
}

function validate(session: PendingSession, state: State): string | undefined {
  const { now, quotas } = state.snapshot;
  if (session.notBefore !== undefined && session.notBefore > now) return 'agent-refused';
  if (session.type === 'batch' && session.startsAt !== undefined && session.startsAt > now) return 'starts-later';
  const ended = (d: Dependency) => ['TERMINATED', 'ERROR', 'CANCELLED'].includes(d.status);
  const unmet = (session.dependencies ?? []).filter((d) => !ended(d) || d.result !== 'success');
  if (unmet.some(ended)) return 'dependency-failed';
  if (unmet.length > 0) return 'dependency-unfinished';
  const wanted = nonZero(sum(session.kernels.map((kernel) => kernel.slots)));
  for (const quota of quotas) {
    if (!quotaScopes.includes(quota.scope) || session.owner[quota.scope] !== quota.id) continue;
    const peers = state.held.filter(
      (held) => held.owner[quota.scope] === quota.id && held.private === (session.private ?? false),
    );
    const most = session.private ? quota.maxPrivateSessions : quota.maxSessions;
    if (most !== undefined && peers.length >= most) return 'quota-exceeded';
    if (session.private) continue;
    const used = sum(peers.map((held) => held.slots));
    for (const [slot, amount] of Object.entries(wanted)) {
      const limit = quota.limits[slot] ?? (quota.unlisted === 'zero' ? 0n : undefined);
      if (limit !== undefined && (used[slot] ?? 0n) + amount > limit) return 'quota-exceeded';
    }
  }
  return undefined;
}

/** What is placed at once. */
function unitsOf({ clusterMode, kernels }: PendingSession): KernelRequest[][] {
  return clusterMode === 'multi-node' ? kernels.map((kernel) => [kernel]) : [[...kernels]];
}

function designatedFor(
  { designated, clusterMode, kernels }: PendingSession,
  unit: number,
): readonly string[] | undefined {
  if (designated?.mode !== 'strict') return undefined;
  const one = clusterMode === 'multi-node' && designated.agents.length === kernels.length;
  return one ? [designated.agents[unit]!] : designated.agents;
}

function suitability(session: PendingSession, state: State): string | undefined {
  for (const [unit, kernels] of unitsOf(session).entries()) {
    const named = designatedFor(session, unit);
    let agents = state.snapshot.agents.filter(
      (a) => a.resourceGroup === session.resourceGroup && a.status !== 'TERMINATED',
    );
    if (agents.length === 0) return 'no-agent';
    agents = agents.filter((agent) => agent.status === 'ALIVE' && agent.schedulable);
    if (agents.length === 0) return 'no-agent-alive';
    if (groupOf(state, session.resourceGroup).restrictsEgress) agents = agents.filter((agent) => agent.enforcesEgress);
    if (agents.length === 0) return 'no-agent-enforces-egress';
    agents = agents.filter((agent) => kernels.every((kernel) => kernel.architecture === agent.architecture));
    if (agents.length === 0) return 'no-agent-of-architecture';
    agents = agents.filter((agent) => !named || named.includes(agent.id));
    if (agents.length === 0) return 'designated-agent-unavailable';
    agents = agents.filter((agent) => hasImages(agent, kernels));
    if (agents.length === 0) return 'no-agent-with-image';
  }
  return undefined;
}

const hasImages = (agent: AgentSnapshot, kernels: readonly KernelRequest[]): boolean =>
  kernels.every(
    ({ image, architecture, fetchable }) =>
      agent.images.includes(imageKey(image, architecture)) || (fetchable === true && agent.fetchesImages === true),
  );

/** The agent of each kernel, or what is short; the state changes only when all are placed. */
function place(
  session: PendingSession,
  state: State,
  besideSlots = false,
): string[] | 'insufficient-resources' | 'kernel-limit-reached' | 'no-common-network' {
  const copy = { ...state, free: new Map(state.free), kernels: new Map(state.kernels), next: new Map(state.next) };
  const wherever = placeAmong(() => true, session, copy, besideSlots);
  if (typeof wherever === 'string') return wherever;
  const networkOf = ({ clusterNetwork = 'none' }: AgentSnapshot): string => clusterNetwork;
  const found = wherever.map((id) => networkOf(state.snapshot.agents.find((agent) => agent.id === id)!));
  const byId = [...state.snapshot.agents].sort((a, b) => (a.id < b.id ? -1 : 1));
  for (const network of new Set([...found, ...byId.map(networkOf)])) {
    const isMeant = (agent: AgentSnapshot): boolean => new Set(found).size === 1 || networkOf(agent) === network;
    const together = placeAmong(isMeant, session, state, besideSlots);
    if (typeof together === 'object') return together;
  }
  return 'no-common-network';
}

function placeAmong(
  isMeant: (agent: AgentSnapshot) => boolean,
  session: PendingSession,
  state: State,
  besideSlots: boolean,
): string[] | 'insufficient-resources' | 'kernel-limit-reached' {
  const group = groupOf(state, session.resourceGroup);
  const free = new Map(state.free);
  const counts = new Map(state.kernels);
  const next = new Map(state.next);
  const result: string[] = [];
  for (const [unit, kernels] of unitsOf(session).entries()) {
    const named = designatedFor(session, unit);
    const wanted = nonZero(sum(kernels.map((kernel) => kernel.slots)));
    const roomy = state.snapshot.agents.filter(
      (agent) =>
        isMeant(agent) &&
        agent.resourceGroup === session.resourceGroup &&
        agent.status === 'ALIVE' &&
        agent.schedulable &&
        (agent.enforcesEgress || !group.restrictsEgress) &&
        kernels.every((kernel) => kernel.architecture === agent.architecture) &&
        (!named || named.includes(agent.id)) &&
        hasImages(agent, kernels) &&
        fits(wanted, besideSlots ? besideWarm(agent, free, state) : (free.get(agent.id) ?? {})),
    );
    const limit = group.maxKernelsPerAgent ?? Number.POSITIVE_INFINITY;
    const candidates = roomy.filter((agent) => (counts.get(agent.id) ?? 0) + kernels.length <= limit);
    const chosen = choose(session, group, wanted, candidates, free, next, state);
    if (!chosen) return roomy.length > 0 ? 'kernel-limit-reached' : 'insufficient-resources';
    free.set(chosen.id, subtractSlots(free.get(chosen.id) ?? {}, wanted));
    counts.set(chosen.id, (counts.get(chosen.id) ?? 0) + kernels.length);
    for (const _ of kernels) result.push(chosen.id);
  }
  for (const [id, left] of free) state.free.set(id, left);
  for (const [id, kernels] of counts) state.kernels.set(id, kernels);
  for (const [name, index] of next) state.next.set(name, index);
  return result;
}

/** What an agent has free beside its warm slots. */
function besideWarm(agent: AgentSnapshot, free: ReadonlyMap<string, ResourceSlots>, state: State): ResourceSlots {
  const held = sum((state.warm.get(agent.id) ?? []).map(({ slots }) => slots));
  return subtractSlots(free.get(agent.id) ?? {}, held);
}

/** The agent whose ready slot the session takes. */
function takeSlot(session: PendingSession, state: State): string[] | undefined {
  const { warmKey, kernels, resourceGroup } = session;
  if (warmKey === undefined || kernels.length > 1) return undefined;
  const without: PendingSession = { ...session, designated: undefined, refusedBy: undefined } as never;
  const possible = state.snapshot.agents.filter((agent) => {
    const slots = state.warm.get(agent.id) ?? [];
    if (!slots.some(({ key, ready }) => ready && key === warmKey) || session.refusedBy?.includes(agent.id))
      return false;
    if (session.designated && !session.designated.agents.includes(agent.id)) return false;
    // Would take the session if it were alone.
    const alone = { ...state.snapshot, agents: [agent] };
    const copy = { ...state, snapshot: alone, free: new Map(state.free), kernels: new Map(state.kernels) };
    return suitability(without, copy) === undefined && typeof place(without, { ...copy, next: new Map() }) === 'object';
  });
  const wanted = nonZero(sum(kernels.map((kernel) => kernel.slots)));
  // As among any agents, but without turns.
  const group = groupOf(state, resourceGroup);
  const chosen =
    group.selection === 'roundrobin'
      ? possible.sort((a, b) => (a.id < b.id ? -1 : 1))[0]
      : choose(without, group, wanted, possible, state.free, new Map(), state);
  if (!chosen) return undefined;
  const slots = state.warm.get(chosen.id)!;
  const [slot] = slots
    .filter(({ key, ready }) => ready && key === warmKey)
    .sort((a, b) => (a.slotId < b.slotId ? -1 : 1));
  slots.splice(slots.indexOf(slot!), 1);
  state.free.set(chosen.id, subtractSlots(state.free.get(chosen.id) ?? {}, wanted));
  state.kernels.set(chosen.id, (state.kernels.get(chosen.id) ?? 0) + 1);
  return [chosen.id];
}

function choose(
  session: PendingSession,
  group: ResourceGroup,
  wanted: ResourceSlots,
  candidates: AgentSnapshot[],
  free: ReadonlyMap<string, ResourceSlots>,
  next: Map<string, number>,
  state: State,
): AgentSnapshot | undefined {
  const rank = (agent: AgentSnapshot): number[] => [
    session.designated?.mode === 'preferred' && !session.designated.agents.includes(agent.id) ? 1 : 0,
    session.refusedBy?.includes(agent.id) ? 1 : 0,
  ];
  const sorted = [...candidates].sort((a, b) => lexicographic(rank(a), rank(b)) || (a.id < b.id ? -1 : 1));
  const best = sorted.filter((agent) => lexicographic(rank(agent), rank(sorted[0]!)) === 0);
  if (best.length === 0) return undefined;
  const selection = group.selection ?? 'dispersed';
  if (selection === 'roundrobin') {
    const index = next.get(group.name) ?? group.roundRobin ?? 0;
    next.set(group.name, index + 1);
    return best[index % best.length];
  }
  const members = state.snapshot.agents.filter((agent) => agent.resourceGroup === group.name);
  const names = slotOrder([...new Set(members.flatMap((agent) => Object.keys(agent.capacity)))], group.slotPriority);
  const key = (agent: AgentSnapshot): number[] => {
    const left = free.get(agent.id) ?? {};
    const unutilised = Object.keys(agent.capacity).filter(
      (slot) => (left[slot] ?? 0n) > 0n && !(slot in wanted),
    ).length;
    const amounts = names.map((slot) => (slot in agent.capacity ? Number(left[slot] ?? 0n) : undefined));
    return selection === 'dispersed' || selection === 'legacy'
      ? [unutilised, ...amounts.map((amount) => -(amount ?? Number.NEGATIVE_INFINITY))]
      : [unutilised, ...amounts.map((amount) => amount ?? Number.POSITIVE_INFINITY)];
  };
  return best.sort((a, b) => lexicographic(key(a), key(b)) || (a.id < b.id ? -1 : 1))[0];
}

function lexicographic(a: readonly number[], b: readonly number[]): number {
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return a[i]! < b[i]! ? -1 : 1;
  return 0;
}
