import type { AgentObstacle } from '@backend.ai/core';
import { Cluster, designatedFor, type Waiting } from './cluster.ts';
import { type Estimate, estimateStart } from './estimate.ts';
import { askedPriority } from './giving-up.ts';
import { dominantShare } from './group.ts';
import { Placing, shortageOf } from './placing.ts';
import type { Plan, WaitingReason } from './plan.ts';
import { type PreemptionPreview, previewPreemption } from './preview.ts';
import { type Remedy, remediesFor } from './remedies.ts';
import {
  type AgentSnapshot,
  canStartImage,
  type GroupHistory,
  type PendingSession,
  type SchedulingPolicy,
} from './snapshot.ts';
import { exceedsAgents, rules } from './validate.ts';

/** What stands between one session and one agent. */
export interface AgentExplanation {
  readonly agentId: string;
  /** Empty: the agent can take it, or at least one kernel of a multi-node session. */
  readonly obstacles: readonly AgentObstacle[];
  readonly lacking: Readonly<
    Record<string, { readonly asked: string; readonly free: string; readonly capacity: string }>
  >;
}

/** All about a session that waits. */
export interface WaitingExplanation {
  readonly sessionId: string;
  readonly resourceGroup: string;
  readonly policy: SchedulingPolicy;
  /** In the queue of its group, from 1. */
  readonly position: number;
  readonly queueLength: number;
  /** What it was queued with, and what giving up has left of it. */
  readonly priority: { readonly asked: number; readonly now: number };
  /** Every rule that it does not pass now, that of the plan first; empty: the next pass places it. */
  readonly reasons: readonly WaitingReason[];
  /** Agents of its group by what stands against them; `open` counts those that can take it. */
  readonly agents: {
    readonly total: number;
    readonly open: number;
    readonly byObstacle: Readonly<Partial<Record<AgentObstacle, number>>>;
    /** Those with the fewest obstacles, then those that lack least. */
    readonly nearest: readonly AgentExplanation[];
  };
  /** Ways in which it would start with the next pass, smallest first. */
  readonly remedies: readonly Remedy[];
  /** Who would have to leave for it; null: preemption does nothing for it. */
  readonly preemption: PreemptionPreview | null;
  readonly estimate: Estimate;
}

const nearestShown = 20;

/**
 * Why a session waits and what would help.
 * @param plan Of the same cluster and moment.
 * @param history Of its group; absent: that of the snapshot.
 * @returns undefined when it does not wait
 */
export function explainWaiting(
  cluster: Cluster,
  plan: Plan,
  sessionId: string,
  now: number,
  history?: GroupHistory,
): WaitingExplanation | undefined {
  const waiting = cluster.waiting.get(sessionId);
  if (!waiting) return undefined;
  const { group } = waiting;
  const reasons = reasonsOf(waiting, cluster, plan, now);
  return {
    sessionId,
    resourceGroup: group.name,
    policy: group.policy,
    position: positionOf(waiting),
    queueLength: group.queue.length,
    priority: { asked: askedPriority(waiting.session), now: waiting.session.priority },
    reasons,
    agents: agentsFor(waiting, cluster),
    remedies: remediesFor(waiting, cluster, plan, reasons, now),
    preemption: previewPreemption(waiting, cluster, plan, now),
    estimate: estimateStart(waiting, cluster, plan, reasons, now, history),
  };
}

/** What stands between a session and each agent, by id of the agent. */
export function explain(session: PendingSession, agents: readonly AgentSnapshot[]): AgentExplanation[] {
  const cluster = new Cluster({ ...nothing, agents, pending: [session] });
  const waiting = cluster.waiting.get(session.sessionId)!;
  return cluster.table.agents.map((_, agent) => explainAgent(waiting, cluster, agent));
}

const nothing = { now: 0, groups: [], running: [], quotas: [], fairShares: [] };

function reasonsOf(waiting: Waiting, cluster: Cluster, plan: Plan, now: number): WaitingReason[] {
  const planned = plan.reasons.get(waiting.session.sessionId);
  if (!planned) return [];
  const reasons = rules.flatMap(([, rule]) => rule(waiting, cluster, now) ?? []);
  if (waiting.shapes.every(({ kind }) => kind.obstacle === undefined)) {
    const { table } = cluster;
    const placing = new Placing(table);
    const mark = table.mark();
    const choices = placing.place(waiting);
    table.undo(mark);
    const shortage =
      'failed' in choices ? (exceedsAgents(waiting, cluster) ?? shortageOf(waiting, choices, table)) : undefined;
    if (shortage) reasons.push(shortage);
  }
  // What the pass said comes first, as sessions are listed with it. It may come of the others in the queue: they take the
  // room, or it stands behind one that waits.
  const said = reasons.find((reason) => reason.code === planned.code) ?? planned;
  return [said, ...reasons.filter((reason) => reason !== said)];
}

/** How many of its group are before it, and itself. */
export function positionOf(waiting: Waiting): number {
  const { group, session } = waiting;
  if (group.policy !== 'drf') return group.queue.indexOf(waiting) + 1;
  const share = dominantShare(group, session.owner.user);
  let position = 1;
  for (const other of group.queue) {
    if (other === waiting) continue;
    const band = other.standing - waiting.standing;
    if (band > 0) position += 1;
    if (band !== 0) continue;
    const difference = dominantShare(group, other.session.owner.user) - share;
    if (difference < 0 || (difference === 0 && group.compare(other, waiting) < 0)) position += 1;
  }
  return position;
}

function agentsFor(waiting: Waiting, cluster: Cluster): WaitingExplanation['agents'] {
  const byObstacle: Partial<Record<AgentObstacle, number>> = {};
  const rated: Array<{ agent: number; rating: number }> = [];
  let open = 0;
  const { agents } = waiting.group;
  for (const agent of agents) {
    const obstacles = obstaclesOf(waiting, cluster, agent);
    if (obstacles.length === 0) open += 1;
    for (const obstacle of obstacles) byObstacle[obstacle] = (byObstacle[obstacle] ?? 0) + 1;
    rated.push({ agent, rating: obstacles.length + shortfallOf(waiting, cluster, agent) });
  }
  rated.sort((a, b) => a.rating - b.rating || a.agent - b.agent);
  const nearest = rated.slice(0, nearestShown).map(({ agent }) => explainAgent(waiting, cluster, agent));
  return { total: agents.length, open, byObstacle, nearest };
}

/** Below 1: how much of the first unit an agent lacks. */
function shortfallOf({ shapes: [shape] }: Waiting, { table }: Cluster, agent: number): number {
  const { columns, amounts } = shape!.slots;
  let lack = 0;
  for (let i = 0; i < columns.length; i++) {
    const free = Math.max(0, table.free[columns[i]!]![agent]!);
    lack += Math.max(0, amounts[i]! - free) / amounts[i]! / (columns.length + 1);
  }
  return lack;
}

/** Of the unit that an agent is nearest to taking. */
function obstaclesOf(waiting: Waiting, cluster: Cluster, agent: number): AgentObstacle[] {
  let fewest: AgentObstacle[] | undefined;
  for (let unit = 0; unit < waiting.shapes.length; unit++) {
    const obstacles = unitObstacles(waiting, cluster, agent, unit);
    if (!fewest || obstacles.length < fewest.length) fewest = obstacles;
    if (fewest.length === 0) break;
  }
  return fewest ?? [];
}

function unitObstacles(
  { session, shapes, group }: Waiting,
  cluster: Cluster,
  index: number,
  unit: number,
): AgentObstacle[] {
  const { table } = cluster;
  const agent = table.agents[index]!;
  const shape = shapes[unit]!;
  const kernels = shapes.length === 1 ? session.kernels : [session.kernels[unit]!];
  const obstacles: AgentObstacle[] = [];
  if (agent.resourceGroup !== group.name) obstacles.push('other-resource-group');
  // In the kind means: open, and with all that does not change from pass to pass.
  if (shape.kind.positions[index]! < 0) {
    const designated = designatedFor(session, unit);
    if (agent.status !== 'ALIVE') obstacles.push('not-alive');
    if (!agent.schedulable) obstacles.push('not-schedulable');
    if (group.options.restrictsEgress && !agent.enforcesEgress) obstacles.push('egress-unenforced');
    if (kernels.some((kernel) => kernel.architecture !== agent.architecture)) obstacles.push('other-architecture');
    if (designated && !designated.includes(agent.id)) obstacles.push('not-designated');
    if (kernels.some((kernel) => !canStartImage(agent, kernel))) obstacles.push('image-absent');
  }
  if (!table.fits(index, shape.slots)) obstacles.push('lacks-resources');
  if (table.kernels[index]! + shape.kernels > group.kernelLimit) obstacles.push('kernel-limit');
  return obstacles;
}

function explainAgent(waiting: Waiting, cluster: Cluster, index: number): AgentExplanation {
  const { table, slots } = cluster;
  const { columns, amounts } = waiting.shapes[0]!.slots;
  const lacking: Record<string, { asked: string; free: string; capacity: string }> = {};
  for (let i = 0; i < columns.length; i++) {
    const column = columns[i]!;
    const free = table.free[column]![index]!;
    if (free >= amounts[i]!) continue;
    lacking[slots.names[column]!] = {
      asked: slots.text(column, amounts[i]!),
      free: slots.text(column, Math.max(0, free)),
      capacity: slots.text(column, table.capacity[column]![index]!),
    };
  }
  return { agentId: table.agents[index]!.id, obstacles: obstaclesOf(waiting, cluster, index), lacking };
}
