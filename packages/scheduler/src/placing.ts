import type { AgentTable } from './agent-table.ts';
import { Tournament } from './candidates.ts';
import type { Waiting } from './cluster.ts';
import type { Decision, Lacking, PlacedKernel, Placement, WaitingReason } from './plan.ts';
import { agentsOf, networkOf, type Shape } from './shape.ts';

/** Where one unit of placement goes. */
export interface Choice {
  readonly agent: number;
  readonly shape: Shape;
  readonly decision: Decision;
}

/** There is no room for a unit once those before it have taken theirs. */
export interface Failure {
  readonly failed: Shape;
  readonly before: readonly Choice[];
  /** There is room for all of them, but not where they reach each other. */
  readonly apart?: true;
}

/** A further condition on agents, which counts what was placed under it. */
export interface Gate {
  allows(agent: number, shape: Shape): boolean;
  took(agent: number, shape: Shape): void;
  /** What was taken since the last `settle` stays, or is given back. */
  settle(kept: boolean): void;
}

/** No condition: agents are looked at one by one, as tables that are tried out need it. */
export const anywhere: Gate = { allows: () => true, took: () => undefined, settle: () => undefined };

/** Room that is held, and stays so or is given back. */
interface Attempt {
  readonly found: Choice[] | Failure;
  giveBack(): void;
  /** Keeps what was found; what was not enough is given back. */
  settle(): Choice[] | Failure;
}

/** A tournament pays for itself when a shape is asked for several times. */
const usesWorthTournament = 3;

/** Next indices of groups with `roundrobin`. */
export type RoundRobin = Map<string, number>;

export class Placing {
  readonly table: AgentTable;
  readonly roundRobin: RoundRobin;

  constructor(table: AgentTable, roundRobin: RoundRobin = new Map()) {
    this.table = table;
    this.roundRobin = roundRobin;
  }

  /**
   * Takes room for all units, or for none.
   * @param gate Agents that may be used; with one they are looked at one by one.
   */
  place(waiting: Waiting, gate?: Gate): Choice[] | Failure {
    const wherever = this.#takeAll(waiting, gate);
    if ('failed' in wherever.found || this.#meet(wherever.found)) return wherever.settle();
    const { found: scattered } = wherever;
    wherever.giveBack();
    const first = scattered.map(({ agent }) => networkOf(this.table, agent));
    for (const network of new Set([...first, ...waiting.shapes[0]!.kind.networks.keys()])) {
      const together = this.#takeAll(waiting, gate, network).settle();
      if (!('failed' in together)) return together;
    }
    return { failed: waiting.shapes[0]!, before: [], apart: true };
  }

  /**
   * Takes room for the units one after the other, as far as there is any, in one network or wherever; until it is
   * settled.
   */
  #takeAll(waiting: Waiting, gate: Gate | undefined, network?: string): Attempt {
    const mark = this.table.mark();
    const next = this.roundRobin.get(waiting.group.name);
    const giveBack = (): void => {
      this.table.undo(mark);
      if (next === undefined) this.roundRobin.delete(waiting.group.name);
      else this.roundRobin.set(waiting.group.name, next);
      gate?.settle(false);
    };
    const attemptOf = (found: Choice[] | Failure): Attempt => ({
      found,
      giveBack,
      settle: () => {
        if ('failed' in found) giveBack();
        else gate?.settle(true);
        return found;
      },
    });
    const choices: Choice[] = [];
    for (const shape of waiting.shapes) {
      const choice = this.#choose(waiting, shape, gate, network);
      if (!choice) return attemptOf({ failed: shape, before: choices });
      this.table.take(choice.agent, shape.slots, shape.kernels);
      gate?.took(choice.agent, shape);
      choices.push(choice);
    }
    return attemptOf(choices);
  }

  /** Whether kernels on these agents reach each other. */
  #meet([first, ...others]: readonly Choice[]): boolean {
    return others.every(({ agent }) => networkOf(this.table, agent) === networkOf(this.table, first!.agent));
  }

  /** Whether an agent has room for a shape now. */
  hasRoom(waiting: Waiting, agent: number, shape: Shape): boolean {
    return (
      this.table.fits(agent, shape.slots) && this.table.kernels[agent]! + shape.kernels <= waiting.group.kernelLimit
    );
  }

  rank({ preferred, refusedBy }: Waiting, agent: number): readonly [number, number] {
    return [preferred && !preferred.has(agent) ? 1 : 0, refusedBy?.has(agent) ? 1 : 0];
  }

  /** @param given By column, what is free there only because others leave. */
  decide(
    waiting: Waiting,
    shape: Shape,
    agent: number,
    { candidates, index, given }: { candidates: number; index?: number; given?: ReadonlyMap<number, number> },
  ): Decision {
    const { table } = this;
    const { group } = waiting;
    const free: Record<string, string> = {};
    const freed: Record<string, string> = {};
    for (const column of group.columns) {
      const amount = table.free[column]![agent]!;
      if (!Number.isFinite(amount)) continue;
      const name = table.slots.names[column]!;
      const ofOthers = Math.min(given?.get(column) ?? 0, Math.max(0, amount));
      free[name] = table.slots.text(column, amount - ofOthers);
      if (ofOthers > 0) freed[name] = table.slots.text(column, ofOthers);
    }
    const unutilised = table.freeKinds[agent]! - shape.slots.columns.length;
    return {
      agentId: table.agents[agent]!.id,
      strategy: group.strategy,
      suitable: shape.kind.agents.length,
      candidates,
      rank: this.rank(waiting, agent),
      key: index === undefined ? { unutilised, free } : { index },
      ...(given ? { freed } : {}),
    };
  }

  #choose(waiting: Waiting, shape: Shape, gate: Gate | undefined, network?: string): Choice | undefined {
    const { group, preferred, refusedBy } = waiting;
    const isAny = !gate && !preferred && !refusedBy && network === undefined;
    if (isAny && group.strategy !== 'roundrobin' && shape.uses >= usesWorthTournament) {
      shape.tournament ??= new Tournament(
        shape.kind.agents,
        (agent) => this.hasRoom(waiting, agent, shape),
        group.prefers,
      );
      const best = shape.tournament.best(this.table.changes, shape.kind.positions);
      return best && { agent: best.agent, shape, decision: this.decide(waiting, shape, best.agent, best) };
    }
    return this.#look(waiting, shape, gate, agentsOf(shape.kind, network));
  }

  /** Looks at each of the agents. */
  #look(waiting: Waiting, shape: Shape, gate: Gate | undefined, agents: Int32Array): Choice | undefined {
    const { group } = waiting;
    const roundRobin = group.strategy === 'roundrobin';
    const ranked = waiting.preferred !== undefined || waiting.refusedBy !== undefined;
    let candidates = 0;
    let best = -1;
    let bestRank = Number.POSITIVE_INFINITY;
    let equals: number[] = [];
    const { amounts } = shape.slots;
    const free = Array.from(shape.slots.columns, (column) => this.table.free[column]!);
    const most = group.kernelLimit - shape.kernels;
    look: for (let position = 0; position < agents.length; position++) {
      const agent = agents[position]!;
      // `hasRoom`, written out: most of the time of a pass among unlike requests is spent here.
      for (let i = 0; i < free.length; i++) if (free[i]![agent]! < amounts[i]!) continue look;
      if (this.table.kernels[agent]! > most || (gate && !gate.allows(agent, shape))) continue;
      candidates += 1;
      let rank = 0;
      if (ranked) {
        const [notPreferred, refused] = this.rank(waiting, agent);
        rank = 2 * notPreferred + refused;
      }
      if (rank > bestRank) continue;
      if (rank < bestRank) {
        bestRank = rank;
        best = agent;
        equals = [];
      } else if (group.prefers(agent, best)) best = agent;
      if (roundRobin) equals.push(agent);
    }
    if (best < 0) return undefined;
    if (!roundRobin) return { agent: best, shape, decision: this.decide(waiting, shape, best, { candidates }) };
    const next = this.roundRobin.get(group.name) ?? group.options.roundRobin ?? 0;
    const index = next % equals.length;
    this.roundRobin.set(group.name, next + 1);
    const agent = equals[index]!;
    return { agent, shape, decision: this.decide(waiting, shape, agent, { candidates, index }) };
  }
}

/** A placement from what was chosen for each unit. */
export function placementOf({ session, shapes }: Waiting, choices: readonly Choice[]): Placement {
  const agentFor = (index: number): string => choices[shapes.length === 1 ? 0 : index]!.decision.agentId;
  const decision = choices.map((choice) => choice.decision);
  const warmSlot = decision[0]?.warmSlot;
  const kernels: PlacedKernel[] = session.kernels.map(({ kernelId }, index) => ({
    kernelId,
    agentId: agentFor(index),
    ...(warmSlot === undefined ? {} : { warmSlot }),
  }));
  return { sessionId: session.sessionId, kernels, decision };
}

/** Why there was no room; the table is as it was for `place`, which had no gate. */
export function shortageOf({ group }: Waiting, { failed, before, apart }: Failure, table: AgentTable): WaitingReason {
  if (apart) return { code: 'no-common-network', data: { resourceGroup: group.name } };
  const mark = table.mark();
  for (const { agent, shape } of before) table.take(agent, shape.slots, shape.kernels);
  // An agent with room was passed over because of its kernels.
  const full = failed.kind.agents.some((agent) => table.fits(agent, failed.slots));
  const reason: WaitingReason = full
    ? { code: 'kernel-limit-reached', data: { limit: group.kernelLimit } }
    : { code: 'insufficient-resources', data: { lacking: lackingOf(failed, table, table.free) } };
  table.undo(mark);
  return reason;
}

/** Slots of which no agent has enough; where each alone would do, all that were asked for. */
export function lackingOf({ kind, slots }: Shape, table: AgentTable, offered: AgentTable['free']): Lacking {
  const { columns, amounts } = slots;
  const all = Array.from(columns, (column, i) => {
    let most = 0;
    for (const agent of kind.agents) most = Math.max(most, offered[column]![agent]!);
    const texts = { asked: table.slots.text(column, amounts[i]!), mostFree: table.slots.text(column, most) };
    return { name: table.slots.names[column]!, texts, lacks: most < amounts[i]! };
  });
  const lacking = all.filter((slot) => slot.lacks);
  return Object.fromEntries((lacking.length > 0 ? lacking : all).map(({ name, texts }) => [name, texts]));
}
