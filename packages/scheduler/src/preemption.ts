import type { AgentTable } from './agent-table.ts';
import type { Cluster, Holding, Waiting } from './cluster.ts';
import type { Group } from './group.ts';
import { type Choice, type Placing, placementOf } from './placing.ts';
import type { Reservation } from './plan.ts';
import { agentsOf, type Shape } from './shape.ts';
import type { Owner, PreemptionOrder } from './snapshot.ts';

/**
 * Chooses sessions that have to leave so that one may take their place, or nobody. What it needs is taken from the
 * table; what victims hold is not given back, as they still hold it.
 * @param claimed Victims of this pass; those chosen are added.
 */
export function preemptFor(
  waiting: Waiting,
  cluster: Cluster,
  placing: Placing,
  claimed: Set<Holding>,
  now: number,
): Reservation | undefined {
  const { preemption } = waiting.group.options;
  if (!preemption?.enabled) return undefined;
  const { table } = cluster;
  const possible = possibleVictims(waiting, claimed, now);
  const mark = table.mark();
  const found = displace(waiting, possible, placing, walkOrder(preemption.order ?? 'oldest', waiting.group));
  if (!found) return undefined;
  if (found.victims.length === 0) {
    // Another layout of its kernels would do: the next pass may find it, and nobody has to leave for that.
    table.undo(mark);
    return undefined;
  }
  // Victims hold what they have until they have left.
  for (const victim of found.victims) {
    claimed.add(victim);
    for (const { agent, slots } of victim.kernels) table.take(agent, slots, 1);
  }
  const victims = found.victims.map(({ session }) => ({
    sessionId: session.sessionId,
    jobPriority: session.jobPriority ?? 0,
  }));
  return { ...placementOf(waiting, found.choices), victims, mode: preemption.mode ?? 'terminate' };
}

/** Before which other session one leaves, on an agent that lacks so much of the columns. */
export type Walk = (a: Holding, b: Holding, agent: number, shortfall: Float64Array, columns: Int32Array) => number;

/**
 * Sessions whose end makes room for one, and where it goes then. Afterwards the table holds what the session takes and not
 * what the others held; it is unchanged when there is no way.
 */
export function displace(
  waiting: Waiting,
  possible: readonly Holding[],
  placing: Placing,
  walk: Walk,
): { choices: Choice[]; victims: Holding[] } | undefined {
  if (possible.length === 0) return undefined;
  if (waiting.shapes.length === 1) return displaceIn(undefined, waiting, possible, placing, walk);
  // The others have to be where the first is, though they could be on agents of networks where that cannot.
  for (const network of waiting.shapes[0]!.kind.networks.keys()) {
    const found = displaceIn(network, waiting, possible, placing, walk);
    if (found) return found;
  }
  return undefined;
}

/** @param network In which all has to be; undefined: there is one unit only. */
function displaceIn(
  network: string | undefined,
  waiting: Waiting,
  possible: readonly Holding[],
  placing: Placing,
  walk: Walk,
): { choices: Choice[]; victims: Holding[] } | undefined {
  const { table } = placing;
  const mark = table.mark();
  const victims: Holding[] = [];
  const choices: Choice[] = [];
  for (const shape of waiting.shapes) {
    const left = possible.filter((holding) => !victims.includes(holding));
    const choice = chooseAgent(waiting, shape, agentsOf(shape.kind, network), left, placing, walk);
    if (!choice) {
      table.undo(mark);
      return undefined;
    }
    for (const victim of choice.victims) {
      for (const { agent, slots } of victim.kernels) table.giveBack(agent, slots, 1);
      victims.push(victim);
    }
    const given = heldOn(choice.agent, victims);
    const decision = placing.decide(waiting, shape, choice.agent, { candidates: choice.candidates, given });
    choices.push({ agent: choice.agent, shape, decision });
    table.take(choice.agent, shape.slots, shape.kernels);
  }
  return { choices, victims };
}

/** What they have there together, by column. */
function heldOn(agent: number, victims: readonly Holding[]): Map<number, number> {
  const held = new Map<number, number>();
  for (const { slots } of victims.flatMap(({ kernels }) => kernels.filter((kernel) => kernel.agent === agent))) {
    slots.columns.forEach((column, i) => {
      held.set(column, (held.get(column) ?? 0) + slots.amounts[i]!);
    });
  }
  return held;
}

function possibleVictims({ session, group }: Waiting, claimed: ReadonlySet<Holding>, now: number): Holding[] {
  const {
    minRuntimeSec = 0,
    victimScope = 'user',
    preemptiblePriority = Number.POSITIVE_INFINITY,
  } = group.options.preemption!;
  const sameScope = (owner: Owner): boolean =>
    victimScope === 'resource-group' || owner[victimScope] === session.owner[victimScope];
  return [...group.holdings].filter((holding) => {
    const { session: other, kernels } = holding;
    const ran = other.startedAt === undefined ? minRuntimeSec <= 0 : other.startedAt <= now - minRuntimeSec * 1000;
    return (
      !claimed.has(holding) &&
      kernels.length > 0 &&
      !other.ending &&
      !other.awaitsVictims &&
      !other.private &&
      (other.isPreemptible ?? true) &&
      (other.jobPriority ?? 0) < (session.jobPriority ?? 0) &&
      (other.jobPriority ?? 0) <= preemptiblePriority &&
      sameScope(other.owner) &&
      ran
    );
  });
}

interface AgentChoice {
  readonly agent: number;
  readonly victims: readonly Holding[];
  readonly candidates: number;
}

/** The agent that costs least: by rank, then fewest victims, then the least that they hold, then by id. */
function chooseAgent(
  waiting: Waiting,
  shape: Shape,
  agents: Int32Array,
  possible: readonly Holding[],
  placing: Placing,
  walk: Walk,
): AgentChoice | undefined {
  const { table } = placing;
  const byAgent = new Map<number, Holding[]>();
  for (const holding of possible) {
    for (const agent of new Set(holding.kernels.map((kernel) => kernel.agent))) {
      const list = byAgent.get(agent);
      if (list) list.push(holding);
      else byAgent.set(agent, [holding]);
    }
  }
  let best: { agent: number; victims: Holding[]; cost: number[] } | undefined;
  let candidates = 0;
  for (const agent of agents) {
    const victims = victimsOn(waiting, shape, agent, byAgent.get(agent) ?? [], table, walk);
    if (!victims) continue;
    candidates += 1;
    const reclaimed = victims.reduce((sum, victim) => sum + sizeOf(waiting.group, victim), 0);
    const cost = [...placing.rank(waiting, agent), victims.length, reclaimed];
    if (!best || lessThan(cost, best.cost)) best = { agent, victims, cost };
  }
  return best && { agent: best.agent, victims: best.victims, candidates };
}

/** Victims whose end makes room on an agent, none of whom is superfluous; undefined when all together do not. */
function victimsOn(
  waiting: Waiting,
  shape: Shape,
  agent: number,
  possible: readonly Holding[],
  table: AgentTable,
  walk: Walk,
): Holding[] | undefined {
  const { columns, amounts } = shape.slots;
  const shortfall = Float64Array.from(columns, (column, i) => amounts[i]! - table.free[column]![agent]!);
  const excess = table.kernels[agent]! + shape.kernels - waiting.group.kernelLimit;
  const covers = (victims: readonly Holding[]): boolean => {
    const rest = Float64Array.from(shortfall);
    let kernels = excess;
    for (const victim of victims) kernels -= subtractOn(rest, victim, agent, columns);
    return kernels <= 0 && rest.every((left) => left <= 0);
  };
  if (covers([])) return [];
  const sorted = [...possible].sort(
    (a, b) => walk(a, b, agent, shortfall, columns) || (a.session.sessionId < b.session.sessionId ? -1 : 1),
  );
  const rest = Float64Array.from(shortfall);
  let kernels = excess;
  const victims: Holding[] = [];
  for (const holding of sorted) {
    if (kernels <= 0 && rest.every((left) => left <= 0)) break;
    const before = rest.reduce((sum, left) => sum + Math.max(0, left), 0);
    const after = Float64Array.from(rest);
    const count = subtractOn(after, holding, agent, columns);
    const reduces = after.reduce((sum, left) => sum + Math.max(0, left), 0) < before || kernels > 0;
    if (!reduces) continue;
    rest.set(after);
    kernels -= count;
    victims.push(holding);
  }
  if (!covers(victims)) return undefined;
  // What came later in the walk may have made an earlier one superfluous; those who matter most are spared first.
  for (let i = victims.length - 1; i >= 0; i--) {
    const without = victims.filter((_, other) => other !== i);
    if (covers(without)) victims.splice(i, 1);
  }
  return victims;
}

/** Takes what a victim holds on an agent from a shortfall. @returns its kernels there */
function subtractOn(rest: Float64Array, victim: Holding, agent: number, columns: Int32Array): number {
  let count = 0;
  for (const kernel of victim.kernels) {
    if (kernel.agent !== agent) continue;
    count += 1;
    kernel.slots.columns.forEach((column, i) => {
      const at = columns.indexOf(column);
      if (at >= 0) rest[at]! -= kernel.slots.amounts[i]!;
    });
  }
  return count;
}

/** Lowest job priority first, then by the order that the group wants. */
function walkOrder(order: PreemptionOrder, group: Group): Walk {
  const jobPriority = ({ session }: Holding): number => session.jobPriority ?? 0;
  // Those that have not started come first: they lose nothing.
  const byStart = (a: Holding, b: Holding, sign: 1 | -1): number => {
    const [first, second] = [a.session.startedAt, b.session.startedAt];
    if (first === undefined || second === undefined)
      return compare(first === undefined ? 0 : 1, second === undefined ? 0 : 1);
    return sign * compare(first, second);
  };
  const orders: Record<PreemptionOrder, Walk> = {
    oldest: (a, b) => byStart(a, b, 1),
    newest: (a, b) => byStart(a, b, -1),
    'fewest-sessions': largestContribution,
    'smallest-resources': (a, b) => compare(sizeOf(group, a), sizeOf(group, b)),
  };
  return (a, b, ...rest) => jobPriority(a) - jobPriority(b) || orders[order](a, b, ...rest);
}

/** Those first that cover most of a shortfall. */
export const largestContribution: Walk = (a, b, agent, shortfall, columns) => {
  const contribution = (holding: Holding): number => {
    const rest = Float64Array.from(shortfall);
    subtractOn(rest, holding, agent, columns);
    return shortfall.reduce((sum, lack, i) => (lack > 0 ? sum + Math.min(1, (lack - rest[i]!) / lack) : sum), 0);
  };
  return compare(contribution(b), contribution(a));
};

/** What a session holds, as shares of its group. */
function sizeOf({ totals }: Group, { total }: Holding): number {
  let sum = 0;
  for (let i = 0; i < total.columns.length; i++) {
    const whole = totals[total.columns[i]!]!;
    if (whole > 0) sum += total.amounts[i]! / whole;
  }
  return sum;
}

const compare = (a: number, b: number): number => (a < b ? -1 : a > b ? 1 : 0);

function lessThan(a: readonly number[], b: readonly number[]): boolean {
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return a[i]! < b[i]!;
  return false;
}
