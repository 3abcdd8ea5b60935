import { amountFromText, amountToText } from '@backend.ai/core';
import { asPlanned } from './as-planned.ts';
import { type Cluster, expiryOf, type Waiting } from './cluster.ts';
import { anywhere, Placing } from './placing.ts';
import type { Plan, QuotaViolation, WaitingCode, WaitingReason } from './plan.ts';
import { displace, largestContribution } from './preemption.ts';
import { type LaterReservation, reservationLater, reservationNow } from './preview.ts';
import { violatedQuotas } from './quota.ts';
import { imageKey } from './snapshot.ts';

/** One thing that somebody can do, or that happens. Amounts are texts as on the wire. */
export type Change =
  /** `sessions` have run for long enough by then to make room for it; absent: nobody has to. */
  | { readonly kind: 'wait-until'; readonly at: number; readonly sessions?: readonly string[] }
  | { readonly kind: 'wait-for-dependencies'; readonly sessions: readonly string[] }
  | { readonly kind: 'drop-dependencies'; readonly sessions: readonly string[] }
  | ({ readonly kind: 'raise-quota'; readonly to: string } & QuotaViolation)
  | { readonly kind: 'go-first'; readonly priority: number }
  | { readonly kind: 'wait-for-queue'; readonly ahead: number }
  | { readonly kind: 'wait-for-sessions'; readonly sessions: readonly string[] }
  | {
      readonly kind: 'reduce-request';
      readonly kernelId: string;
      readonly slot: string;
      readonly from: string;
      readonly to: string;
    }
  | {
      readonly kind: 'add-agent';
      readonly count: number;
      readonly architecture: string;
      /** Keys made by `imageKey`. */
      readonly images: readonly string[];
      readonly slots: Readonly<Record<string, string>>;
    }
  | { readonly kind: 'drop-designation' }
  | { readonly kind: 'raise-kernel-limit'; readonly to: number };

/** Changes that together let a session start with the next pass: `applyRemedy` shows it. */
export type Remedy = readonly Change[];

const highestPriority = 100;

/** Reasons of sessions further ahead that go away with nothing but their own doing. */
const harmless: ReadonlySet<WaitingCode> = new Set([
  'agent-refused',
  'starts-later',
  'dependency-unfinished',
  'dependency-failed',
  'no-agent',
  'no-agent-alive',
  'no-agent-enforces-egress',
  'no-agent-of-architecture',
  'no-agent-with-image',
  'designated-agent-unavailable',
  'exceeds-agents',
  'pending-timeout',
]);

/**
 * Ways in which a session would start, those with the fewest changes first. Empty when it starts anyway, and when it
 * has waited for too long.
 */
export function remediesFor(
  waiting: Waiting,
  cluster: Cluster,
  plan: Plan,
  reasons: readonly WaitingReason[],
  now: number,
): Remedy[] {
  if (reasons.length === 0 || reasons.some(({ code }) => code === 'pending-timeout')) return [];
  const own = reasons.flatMap(ownChange);
  const turn = turnOf(waiting, cluster, plan);
  const waits = own.some(({ kind }) => kind === 'wait-until');
  const latest = Math.max(now, ...own.map((change) => (change.kind === 'wait-until' ? change.at : now)));
  if (latest >= expiryOf(waiting)) return [];
  if (turn === 'next') return after(own, find(waiting, cluster, latest, true));
  const first = after([...own, goFirst(waiting, cluster)], find(waiting, cluster, latest, true));
  if (turn === 'behind' || waits) return first;
  // Others go before it, as planned; what frees room would let them choose otherwise.
  const inTurn = asPlanned(cluster, plan, () => find(waiting, cluster, latest, false));
  return inTurn.length > 0 ? after(own, inTurn) : first;
}

const after = (before: readonly Change[], rest: readonly Remedy[]): Remedy[] =>
  rest.map((remedy) => [...before, ...remedy]).sort((a, b) => a.length - b.length);

/**
 * `next`: nobody is before it. `in turn`: those before it are placed, or wait for something of their own. `behind`: not
 * so.
 */
function turnOf(waiting: Waiting, cluster: Cluster, plan: Plan): 'next' | 'in turn' | 'behind' {
  let turn: 'next' | 'in turn' = 'next';
  const { group, scopes } = waiting;
  for (const other of cluster.waiting.values()) {
    if (other === waiting || other.standing < waiting.standing) continue;
    const sameBand = other.standing === waiting.standing;
    if (other.group === group) {
      if (sameBand && group.policy !== 'drf' && group.compare(other, waiting) > 0) continue;
      // Shares change with whatever happens.
      if (group.policy === 'drf') return 'behind';
    } else if (!other.scopes.some((scope) => scopes.includes(scope))) continue;
    const reason = plan.reasons.get(other.session.sessionId);
    if (reason && !harmless.has(reason.code)) return 'behind';
    turn = 'in turn';
  }
  return turn;
}

function goFirst(waiting: Waiting, cluster: Cluster): Change {
  let highest = 0;
  let ahead = 0;
  for (const { session } of cluster.waiting.values()) {
    highest = Math.max(highest, session.priority);
    if (session.priority >= waiting.session.priority) ahead += 1;
  }
  return highest < highestPriority
    ? { kind: 'go-first', priority: highest + 1 }
    : { kind: 'wait-for-queue', ahead: ahead - 1 };
}

/**
 * @param from When that is which it waits for besides.
 * @param changingOthers Whether changes may be proposed that others could make use of.
 */
function find(waiting: Waiting, cluster: Cluster, from: number, changingOthers: boolean): Remedy[] {
  const { session, scopes, total } = waiting;
  const quotas = violatedQuotas(scopes, total, session.private ?? false, cluster.slots).map(raiseQuota);
  const asIs = findRoom(waiting, cluster, from, changingOthers);
  const remedies = [...asIs];
  if (session.designated?.mode === 'strict' && !asIs.some((remedy) => remedy.length === 0)) {
    const { designated: _, ...anywhere } = session;
    const room = findRoom(cluster.compile(anywhere), cluster, from, changingOthers);
    remedies.push(...after([{ kind: 'drop-designation' }], room));
  }
  return after(quotas, remedies);
}

function raiseQuota(violation: QuotaViolation): Change {
  const to = amountToText(amountFromText(violation.used) + amountFromText(violation.asked));
  return { kind: 'raise-quota', ...violation, to };
}

/** One empty remedy when there is room already. */
function findRoom(waiting: Waiting, cluster: Cluster, from: number, changingOthers: boolean): Remedy[] {
  const { table } = cluster;
  const { shapes, session, group } = waiting;
  const placing = new Placing(table);
  const needed = Math.max(...shapes.map((shape) => shape.kernels));
  const limit: Change[] = needed > group.kernelLimit ? [{ kind: 'raise-kernel-limit', to: needed }] : [];
  const remedies: Remedy[] = [];
  const tryOut = <T>(work: () => T): T => {
    const mark = table.mark();
    try {
      return work();
    } finally {
      table.undo(mark);
    }
  };
  if (shapes.every((shape) => shape.kind.obstacle === undefined) && limit.length === 0) {
    if (tryOut(() => !('failed' in placing.place(waiting, anywhere)))) return [[]];
    if (changingOthers && reservationNow(waiting, cluster, from)) return [[]];
    const reduced = reduceRequest(waiting, cluster);
    if (reduced) remedies.push(reduced);
    if (changingOthers) {
      const possible = [...group.holdings].filter(({ session: other }) => !other.awaitsVictims);
      const victims = tryOut(() => displace(waiting, possible, placing, largestContribution))?.victims ?? [];
      // Kernels of several nodes may be laid out otherwise once there is room: what counts is what a pass does.
      const helps = tryOut(() => {
        for (const { kernels } of victims) for (const { agent, slots } of kernels) table.giveBack(agent, slots, 1);
        return !('failed' in new Placing(table).place(waiting, anywhere));
      });
      const sessions = victims.map((victim) => victim.session.sessionId).sort();
      if (helps) remedies.push([{ kind: 'wait-for-sessions', sessions }]);
      const later = reservationLater(waiting, cluster, from);
      if (later && later.at < expiryOf(waiting)) remedies.push([{ kind: 'wait-until', ...roomMadeAt(later) }]);
    }
  }
  const added = changingOthers && session.designated?.mode !== 'strict' ? addAgents(waiting, cluster) : undefined;
  if (added) remedies.push([...limit, ...added]);
  return remedies;
}

function roomMadeAt({ at, reservation }: LaterReservation): { at: number; sessions: readonly string[] } {
  return { at, sessions: reservation.victims.map(({ sessionId }) => sessionId).sort() };
}

/** On the agent where the least has to be given up; for sessions that are placed as a whole. */
function reduceRequest({ session, shapes, group }: Waiting, { table, slots }: Cluster): Remedy | undefined {
  const [shape, second] = shapes;
  if (!shape || second) return undefined;
  const { columns, amounts } = shape.slots;
  let least: { agent: number; share: number } | undefined;
  for (const agent of shape.kind.agents) {
    if (table.kernels[agent]! + shape.kernels > group.kernelLimit) continue;
    let share = 0;
    for (let i = 0; i < columns.length; i++) {
      const lack = amounts[i]! - table.free[columns[i]!]![agent]!;
      // Nothing at all is left of it there.
      if (lack >= amounts[i]!) share = Number.POSITIVE_INFINITY;
      else if (lack > 0) share += lack / amounts[i]!;
    }
    if (share < (least?.share ?? Number.POSITIVE_INFINITY)) least = { agent, share };
  }
  if (!least) return undefined;
  const changes: Change[] = [];
  for (let i = 0; i < columns.length; i++) {
    const column = columns[i]!;
    const slot = slots.names[column]!;
    const lack = amounts[i]! - table.free[column]![least.agent]!;
    if (lack <= 0) continue;
    // Taken from the kernel that asks for most.
    const largest = session.kernels.reduce((a, b) => ((b.slots[slot] ?? 0n) > (a.slots[slot] ?? 0n) ? b : a));
    const from = largest.slots[slot] ?? 0n;
    const to = slots.amount(column, slots.wanted(column, from) - lack);
    if (to <= 0n) return undefined;
    changes.push({
      kind: 'reduce-request',
      kernelId: largest.kernelId,
      slot,
      from: amountToText(from),
      to: amountToText(to),
    });
  }
  return changes;
}

/**
 * For each architecture as many as there are kernels of it (or one for a whole session), each large enough for any of them,
 * so that it matters to nobody which goes where. None for a session that cannot be on one agent.
 */
function addAgents({ session, shapes }: Waiting, { slots }: Cluster): Change[] | undefined {
  const architectures = [...new Set(session.kernels.map((kernel) => kernel.architecture))].sort();
  const whole = shapes.length === 1;
  if (whole && architectures.length > 1) return undefined;
  return architectures.map((architecture) => {
    const kernels = session.kernels.filter((kernel) => kernel.architecture === architecture);
    const requests = whole
      ? [shapes[0]!]
      : shapes.filter((_, unit) => session.kernels[unit]!.architecture === architecture);
    const most = new Map<number, number>();
    for (const { slots: request } of requests) {
      request.columns.forEach((column, i) => {
        most.set(column, Math.max(most.get(column) ?? 0, request.amounts[i]!));
      });
    }
    const texts = [...most]
      .sort(([a], [b]) => a - b)
      .map(([column, units]) => [slots.names[column]!, slots.text(column, units)]);
    return {
      kind: 'add-agent',
      count: requests.length,
      architecture,
      images: [...new Set(kernels.map((kernel) => imageKey(kernel.image, kernel.architecture)))].sort(),
      slots: Object.fromEntries(texts),
    };
  });
}

/** What lifts a reason that concerns the session alone. */
function ownChange(reason: WaitingReason): Change[] {
  switch (reason.code) {
    case 'agent-refused':
      return [{ kind: 'wait-until', at: Date.parse(reason.data.nextTryAt) }];
    case 'starts-later':
      return [{ kind: 'wait-until', at: Date.parse(reason.data.startsAt) }];
    case 'dependency-unfinished':
      return [{ kind: 'wait-for-dependencies', sessions: reason.data.sessions }];
    case 'dependency-failed':
      return [{ kind: 'drop-dependencies', sessions: reason.data.sessions }];
    default:
      return [];
  }
}
