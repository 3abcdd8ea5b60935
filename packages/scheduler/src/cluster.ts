import { addSlots, equalSlots, type ResourceSlots } from '@backend.ai/core';
import { AgentTable } from './agent-table.ts';
import { fairShareDefaults, fairShareFactor, normalisedUsage } from './fair-share.ts';
import { hasGivenUp, standingOf } from './giving-up.ts';
import { type Group, groupOf } from './group.ts';
import { countSession, type ScopeUsage, scopeUsage } from './quota.ts';
import { type Alike, kindOf, type Shape } from './shape.ts';
import { type DenseSlots, SlotTable } from './slot-table.ts';
import {
  type AgentSnapshot,
  type FairShareScope,
  fairShareScopes,
  type Owner,
  type PendingSession,
  type QuotaScope,
  quotaScopes,
  type RunningSession,
  type Snapshot,
  type WarmSlot,
} from './snapshot.ts';

/** A waiting session, compiled. */
export interface Waiting {
  readonly session: PendingSession;
  readonly group: Group;
  /** The priority with which it is in its queue: `standingOf`. */
  standing: number;
  /** The code of the reason that it was told last. Nothing is decided by it. */
  told: string | undefined;
  /** What is placed at once: the whole session, or each kernel of a multi-node session. */
  readonly shapes: readonly Shape[];
  readonly total: DenseSlots;
  /** Quotas that it counts in. */
  readonly scopes: readonly ScopeUsage[];
  /** Only quotas can concern it alone: it names no moment and no dependency, and there are agents that can take it. */
  readonly plain: boolean;
  /** Those like it; undefined: more is to be known of it. */
  readonly alike: Alike | undefined;
  /** Of domain, project and user: higher comes first. */
  readonly factors: readonly number[];
  readonly preferred: ReadonlySet<number> | undefined;
  readonly refusedBy: ReadonlySet<number> | undefined;
}

/** A session that holds resources, compiled. */
export interface Holding {
  readonly session: RunningSession;
  /** Kernels with agents that are in the table. */
  readonly kernels: ReadonlyArray<{ readonly agent: number; readonly slots: DenseSlots }>;
  readonly total: DenseSlots;
  readonly scopes: readonly ScopeUsage[];
}

/** A snapshot in the form in which a pass works on it. */
export class Cluster {
  readonly table: AgentTable;
  readonly slots: SlotTable;
  readonly groups = new Map<string, Group>();
  readonly waiting = new Map<string, Waiting>();
  readonly holdings = new Map<string, Holding>();
  readonly #scopes = new Map<string, ScopeUsage>();
  readonly #factors = new Map<string, number>();

  constructor(snapshot: Snapshot) {
    this.slots = new SlotTable(slotNames(snapshot));
    this.table = new AgentTable(snapshot.agents, this.slots);
    const named = new Map(snapshot.groups.map((group) => [group.name, group]));
    const names = new Set([
      ...named.keys(),
      ...[...snapshot.agents, ...snapshot.pending, ...snapshot.running].map((thing) => thing.resourceGroup),
    ]);
    const members = new Map<string, number[]>([...names].map((name) => [name, []]));
    this.table.agents.forEach((agent, index) => {
      members.get(agent.resourceGroup)?.push(index);
    });
    for (const name of [...names].sort()) {
      this.groups.set(name, groupOf(named.get(name) ?? { name }, Int32Array.from(members.get(name) ?? []), this.table));
    }
    for (const quota of snapshot.quotas) {
      this.#scopes.set(scopeKey(quota.scope, quota.id), scopeUsage(quota, this.slots));
    }
    this.#rateUsage(snapshot);
    for (const session of snapshot.running) this.hold(session);
    for (const session of snapshot.pending) this.enqueue(session, false);
    for (const group of this.groups.values()) {
      group.queue.sort(group.compare);
      standAnew(group);
    }
  }

  /** Whether all that it names is known; else everything has to be compiled again. */
  knows(session: PendingSession): boolean {
    return this.groups.has(session.resourceGroup) && session.kernels.every((kernel) => this.slots.has(kernel.slots));
  }

  /** @param sorted Whether the queue is in order, and has to stay so. */
  enqueue(session: PendingSession, sorted = true): void {
    const waiting = this.compile(session);
    for (const shape of waiting.shapes) shape.uses += 1;
    this.waiting.set(session.sessionId, waiting);
    const { group } = waiting;
    if (hasGivenUp(waiting)) group.lowered.add(waiting);
    if (!waiting.plain) group.dated.add(waiting);
    if (!sorted) {
      group.queue.push(waiting);
      return;
    }
    insert(waiting);
    standAnew(group);
  }

  /** As it would be in the queue. */
  compile(session: PendingSession): Waiting {
    const group = this.groups.get(session.resourceGroup)!;
    const { refusedBy = [], designated } = session;
    const multi = session.clusterMode === 'multi-node';
    const units = multi ? session.kernels.map((kernel) => [kernel]) : [session.kernels];
    const shapes = units.map((kernels, index) => this.#shapeOf(group, session, kernels, multi ? index : 0));
    const { notBefore, startsAt, dependencies } = session;
    const plain =
      notBefore === undefined &&
      startsAt === undefined &&
      dependencies === undefined &&
      shapes.every(({ kind }) => kind.obstacle === undefined);
    return {
      session,
      group,
      standing: session.priority,
      told: undefined,
      shapes,
      plain,
      alike: plain && shapes.length === 1 && refusedBy.length === 0 ? alikeOf(shapes[0]!, session) : undefined,
      total: this.slots.dense(session.kernels.map((kernel) => kernel.slots)),
      scopes: this.#scopesOf(session.owner),
      factors: fairShareScopes.map(
        (scope) => this.#factors.get(factorKey(group.name, scope, session.owner[scope])) ?? 0,
      ),
      preferred: designated?.mode === 'preferred' ? this.#indices(designated.agents) : undefined,
      refusedBy: refusedBy.length > 0 ? this.#indices(refusedBy) : undefined,
    };
  }

  dequeue(sessionId: string): void {
    const waiting = this.waiting.get(sessionId);
    if (!waiting || !this.waiting.delete(sessionId)) return;
    for (const shape of waiting.shapes) shape.uses -= 1;
    const { group } = waiting;
    group.lowered.delete(waiting);
    group.dated.delete(waiting);
    remove(waiting);
    standAnew(group);
  }

  /** Counts a session that holds resources. What agents have free is not touched: they tell it themselves. */
  hold(session: RunningSession): void {
    const kernels = session.kernels.flatMap(({ agentId, slots }) => {
      const agent = this.table.indexOf(agentId);
      return agent === undefined ? [] : [{ agent, slots: this.slots.dense([slots]) }];
    });
    const total = this.slots.dense(session.kernels.map((kernel) => kernel.slots));
    const holding = { session, kernels, total, scopes: this.#scopesOf(session.owner) };
    this.holdings.set(session.sessionId, holding);
    countSession(holding.scopes, total, session.private ?? false, 1);
    const group = this.groups.get(session.resourceGroup);
    group?.holdings.add(holding);
    if (!session.private) group?.count(session.owner.user, total, 1);
  }

  release(sessionId: string): void {
    const holding = this.holdings.get(sessionId);
    if (!holding || !this.holdings.delete(sessionId)) return;
    const { session, scopes, total } = holding;
    countSession(scopes, total, session.private ?? false, -1);
    const group = this.groups.get(session.resourceGroup);
    group?.holdings.delete(holding);
    if (!session.private) group?.count(session.owner.user, total, -1);
  }

  #scopesOf(owner: Owner): ScopeUsage[] {
    return quotaScopes.flatMap((scope) => this.#scopes.get(scopeKey(scope, owner[scope])) ?? []);
  }

  #indices(ids: readonly string[]): Set<number> {
    return new Set(ids.map((id) => this.table.indexOf(id) ?? -1));
  }

  #shapeOf(group: Group, session: PendingSession, kernels: PendingSession['kernels'], index: number): Shape {
    const slots = this.slots.dense(kernels.map((kernel) => kernel.slots));
    const kind = kindOf(group, this.table, kernels, designatedFor(session, index));
    const key = `${kind.set}|${kernels.length}|${slots.columns.join()}|${slots.amounts.join()}`;
    let shape = group.shapes.get(key);
    if (!shape) {
      shape = {
        kind,
        slots,
        kernels: kernels.length,
        uses: 0,
        tournament: undefined,
        exceeds: undefined,
        askers: new Map(),
      };
      group.shapes.set(key, shape);
    }
    return shape;
  }

  #rateUsage(snapshot: Snapshot): void {
    const options = new Map(snapshot.groups.map((group) => [group.name, group.fairShare ?? {}]));
    for (const { resourceGroup, scope, id, usage, weight } of snapshot.fairShares) {
      const group = this.groups.get(resourceGroup);
      if (!group) continue;
      const spec = options.get(resourceGroup) ?? {};
      const normalised = normalisedUsage(usage, group.capacity, spec);
      const factor = fairShareFactor(normalised, weight ?? spec.defaultWeight ?? fairShareDefaults.defaultWeight);
      this.#factors.set(factorKey(resourceGroup, scope, id), factor);
    }
  }
}

function alikeOf(shape: Shape, session: PendingSession): Alike {
  const { keypair, user, project, domain } = session.owner;
  const key = `${keypair}\n${user}\n${project}\n${domain}\n${session.private ?? false}`;
  let alike = shape.askers.get(key);
  if (!alike) {
    alike = { reason: undefined, since: undefined };
    shape.askers.set(key, alike);
  }
  return alike;
}

/** The agents that a session has to go to; undefined: any. */
export function designatedFor(session: PendingSession, index: number): readonly string[] | undefined {
  const { designated, clusterMode, kernels } = session;
  if (designated?.mode !== 'strict') return undefined;
  const parallel = clusterMode === 'multi-node' && designated.agents.length === kernels.length;
  return parallel ? designated.agents.slice(index, index + 1) : designated.agents;
}

function slotNames({ agents, pending, running, quotas }: Snapshot): Set<string> {
  const names = new Set<string>();
  const add = (slots: ResourceSlots): void => {
    for (const name of Object.keys(slots)) names.add(name);
  };
  for (const agent of agents) {
    add(agent.capacity);
    add(agent.used);
    for (const { slots } of agent.warmSlots ?? []) add(slots);
  }
  for (const session of [...pending, ...running]) for (const kernel of session.kernels) add(kernel.slots);
  for (const quota of quotas) add(quota.limits);
  return names;
}

function insert(waiting: Waiting): void {
  waiting.group.queue.splice(positionIn(waiting.group, waiting), 0, waiting);
}

function remove(waiting: Waiting): void {
  const { queue } = waiting.group;
  const position = positionIn(waiting.group, waiting);
  queue.splice(queue[position] === waiting ? position : queue.indexOf(waiting), 1);
}

/** Those that lost priority keep or lose their place by who else is in the queue, which is in order before and after. */
function standAnew({ lowered }: Group): void {
  for (const waiting of lowered) {
    const standing = standingOf(waiting);
    if (standing === waiting.standing) continue;
    remove(waiting);
    waiting.standing = standing;
    insert(waiting);
  }
}

/** Where a session stands in its group's sorted queue, or would. */
function positionIn({ queue, compare }: Group, waiting: Waiting): number {
  let low = 0;
  let high = queue.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (compare(queue[middle]!, waiting) < 0) low = middle + 1;
    else high = middle;
  }
  return low;
}

const scopeKey = (scope: QuotaScope, id: string): string => `${scope} ${id}`;
const factorKey = (group: string, scope: FairShareScope, id: string): string => `${group} ${scope} ${id}`;

/** Whether only amounts differ: what an update of the table can take in. */
export function sameButAmounts(before: AgentSnapshot, after: AgentSnapshot): boolean {
  const capacities = Object.keys(after.capacity);
  return (
    before.status === after.status &&
    before.schedulable === after.schedulable &&
    before.resourceGroup === after.resourceGroup &&
    before.architecture === after.architecture &&
    (before.fetchesImages ?? false) === (after.fetchesImages ?? false) &&
    (before.enforcesEgress ?? false) === (after.enforcesEgress ?? false) &&
    before.clusterNetwork === after.clusterNetwork &&
    (before.images === after.images || before.images.join('\n') === after.images.join('\n')) &&
    capacities.length === Object.keys(before.capacity).length &&
    capacities.every((name) => Object.hasOwn(before.capacity, name) && before.capacity[name] === after.capacity[name])
  );
}

export function sameAmounts(before: AgentSnapshot, after: AgentSnapshot): boolean {
  const held = (agent: AgentSnapshot): ResourceSlots => addSlots(agent.used, agent.reserved ?? {});
  return (
    (before.kernelCount ?? 0) === (after.kernelCount ?? 0) &&
    equalSlots(held(before), held(after)) &&
    sameWarmSlots(before.warmSlots ?? [], after.warmSlots ?? [])
  );
}

/** What a slot holds never changes. */
function sameWarmSlots(before: readonly WarmSlot[], after: readonly WarmSlot[]): boolean {
  if (before === after) return true;
  const known = new Map(before.map(({ slotId, ready }) => [slotId, ready]));
  return before.length === after.length && after.every(({ slotId, ready }) => known.get(slotId) === ready);
}

/** When it has waited for as long as its group allows; Infinity: never. */
export function expiryOf({ session, group }: Pick<Waiting, 'session' | 'group'>): number {
  const { pendingTimeoutMs = 0 } = group.options;
  return pendingTimeoutMs > 0 ? (session.queuedAt ?? session.createdAt) + pendingTimeoutMs : Number.POSITIVE_INFINITY;
}

/** The first moment at which a plan changes though nothing has happened; Infinity: never. */
export function unchangedUntil(cluster: Cluster, now: number): number {
  let until = Number.POSITIVE_INFINITY;
  const note = (at: number | undefined): void => {
    if (at !== undefined && at > now && at < until) until = at;
  };
  for (const { options, queue, dated } of cluster.groups.values()) {
    const { backfill, preemption, pendingTimeoutMs = 0 } = options;
    // Both look at how long others have run or will run.
    if (queue.length > 0 && (backfill || preemption?.enabled)) return now + 1;
    if (pendingTimeoutMs > 0) for (const waiting of queue) note(expiryOf(waiting));
    for (const { session } of dated) {
      note(session.notBefore);
      note(session.startsAt);
    }
  }
  return until;
}
