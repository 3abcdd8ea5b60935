import { addSlots } from '@backend.ai/core';
import { Cluster, sameAmounts, sameButAmounts, unchangedUntil } from './cluster.ts';
import { explainWaiting, type WaitingExplanation } from './explain.ts';
import { type PlanOfPass, runPass } from './pass.ts';
import type { Placement, Plan, Reservation, WaitingReason } from './plan.ts';
import { reservationNow } from './preview.ts';
import { negative, startedSession, withKernel, withoutWarmSlot } from './schedule.ts';
import type {
  AgentSnapshot,
  FairShareUsage,
  GroupHistory,
  PendingSession,
  Quota,
  ResourceGroup,
  RunningSession,
  Snapshot,
  WarmSlot,
} from './snapshot.ts';

/**
 * A snapshot that follows what happens and stays compiled, for who schedules again and again: a pass after one change costs
 * that change. Plans are those of `schedule(state.snapshot(now))`, always.
 */
export class SchedulingState {
  #groups: Map<string, ResourceGroup>;
  readonly #agents: Map<string, AgentSnapshot>;
  readonly #pending: Map<string, PendingSession>;
  readonly #running: Map<string, RunningSession>;
  #quotas: readonly Quota[];
  #fairShares: readonly FairShareUsage[];
  #compiled: Cluster | undefined;
  #lastPlan: { readonly now: number; readonly until: number; readonly plan: PlanOfPass } | undefined;
  /** What those that wait were told last. */
  readonly #told = new Map<string, string>();

  constructor(snapshot: Omit<Snapshot, 'now'>) {
    this.#groups = new Map(snapshot.groups.map((group) => [group.name, group]));
    this.#agents = new Map(snapshot.agents.map((agent) => [agent.id, agent]));
    this.#pending = new Map(snapshot.pending.map((session) => [session.sessionId, session]));
    this.#running = new Map(snapshot.running.map((session) => [session.sessionId, session]));
    this.#quotas = snapshot.quotas;
    this.#fairShares = snapshot.fairShares;
  }

  snapshot(now: number): Snapshot {
    return {
      now,
      groups: [...this.#groups.values()],
      agents: [...this.#agents.values()],
      pending: [...this.#pending.values()],
      running: [...this.#running.values()],
      quotas: this.#quotas,
      fairShares: this.#fairShares,
    };
  }

  /** Options, quotas, usage: whatever is given replaces what was. */
  setRules(rules: {
    readonly groups?: readonly ResourceGroup[];
    readonly quotas?: readonly Quota[];
    readonly fairShares?: readonly FairShareUsage[];
  }): void {
    if (rules.groups) this.#groups = new Map(rules.groups.map((group) => [group.name, group]));
    if (rules.quotas) this.#quotas = rules.quotas;
    if (rules.fairShares) this.#fairShares = rules.fairShares;
    this.#compileAnew();
  }

  setAgent(agent: AgentSnapshot): void {
    const before = this.#agents.get(agent.id);
    this.#agents.set(agent.id, agent);
    if (before && sameButAmounts(before, agent) && sameAmounts(before, agent)) return;
    const index = this.#compiled?.table.indexOf(agent.id);
    const known = agent.warmSlots?.every(({ slots }) => this.#compiled?.slots.has(slots)) ?? true;
    if (index === undefined || !before || !known || !sameButAmounts(before, agent)) this.#compileAnew();
    else {
      this.#compiled?.table.update(index, agent);
      this.#changed();
    }
  }

  /** All warm slots, by agent. */
  setWarmSlots(slots: ReadonlyMap<string, readonly WarmSlot[]>): void {
    for (const agent of [...this.#agents.values()]) {
      const { warmSlots, ...rest } = agent;
      const now = slots.get(agent.id);
      if (now || warmSlots) this.setAgent(now ? { ...rest, warmSlots: now } : rest);
    }
  }

  removeAgent(id: string): void {
    if (this.#agents.delete(id)) this.#compileAnew();
  }

  /** A session waits, or what it waits for has changed. */
  queue(session: PendingSession): void {
    this.#pending.set(session.sessionId, session);
    if (!this.#compiled?.knows(session)) this.#compileAnew();
    else {
      this.#compiled.dequeue(session.sessionId);
      this.#compiled.enqueue(session);
      this.#retell(session.sessionId);
      this.#changed();
    }
  }

  /** It waits no more and was not placed. */
  unqueue(sessionId: string): void {
    if (!this.#pending.delete(sessionId)) return;
    this.#told.delete(sessionId);
    this.#compiled?.dequeue(sessionId);
    this.#changed();
  }

  /** A placement of a plan was carried out. @param startedAt Absent while it is being started. */
  placed({ sessionId, kernels }: Pick<Placement, 'sessionId' | 'kernels'>, startedAt?: number): void {
    const session = this.#pending.get(sessionId);
    if (!session) return;
    this.unqueue(sessionId);
    const running = startedSession(session, kernels, startedAt);
    for (const { agentId, kernelId, slots } of running.kernels) {
      const agent = this.#agents.get(agentId);
      if (agent) this.setAgent(withoutWarmSlot(withKernel(agent, slots, 1), kernelId));
    }
    this.setRunning(running);
  }

  /** A reservation of a plan was carried out: it holds its place beside what its victims hold until they have left. */
  reserved({ sessionId, kernels, victims }: Pick<Reservation, 'sessionId' | 'kernels' | 'victims'>): void {
    const session = this.#pending.get(sessionId);
    if (!session) return;
    this.unqueue(sessionId);
    const waiting = { ...startedSession(session, kernels, undefined), awaitsVictims: true };
    for (const { agentId, slots } of waiting.kernels) {
      const agent = this.#agents.get(agentId);
      if (agent) this.setAgent({ ...agent, reserved: addSlots(agent.reserved ?? {}, slots) });
    }
    this.setRunning(waiting);
    for (const victim of victims) {
      const running = this.#running.get(victim.sessionId);
      if (running) this.setRunning({ ...running, ending: true });
    }
  }

  /** The place of a reservation has become free: the session is being started there. */
  admitted(sessionId: string): void {
    const session = this.#running.get(sessionId);
    if (!session?.awaitsVictims) return;
    this.ended(sessionId);
    for (const { agentId, slots } of session.kernels) {
      const agent = this.#agents.get(agentId);
      if (agent) this.setAgent(withKernel(agent, slots, 1));
    }
    const { awaitsVictims, ...running } = session;
    this.setRunning(running);
  }

  waiting(sessionId: string): PendingSession | undefined {
    return this.#pending.get(sessionId);
  }

  running(sessionId: string): RunningSession | undefined {
    return this.#running.get(sessionId);
  }

  /** Undefined: it has no options of its own. */
  group(name: string): ResourceGroup | undefined {
    return this.#groups.get(name);
  }

  get queueLength(): number {
    return this.#pending.size;
  }

  /** A session holds resources, or its facts have changed. What its agents hold is told by `setAgent`. */
  setRunning(session: RunningSession): void {
    const compiled = this.#compiled;
    this.#running.set(session.sessionId, session);
    compiled?.release(session.sessionId);
    if (
      compiled?.groups.has(session.resourceGroup) &&
      session.kernels.every(({ slots }) => compiled.slots.has(slots))
    ) {
      compiled.hold(session);
      this.#changed();
    } else this.#compileAnew();
  }

  /** It holds nothing any more. */
  ended(sessionId: string): void {
    const session = this.#running.get(sessionId);
    if (!session || !this.#running.delete(sessionId)) return;
    this.#compiled?.release(sessionId);
    for (const { agentId, slots } of session.kernels) {
      const agent = this.#agents.get(agentId);
      if (!agent) continue;
      if (session.awaitsVictims) this.setAgent({ ...agent, reserved: addSlots(agent.reserved ?? {}, negative(slots)) });
      else this.setAgent(withKernel(agent, negative(slots), -1));
    }
    this.#changed();
  }

  /** Where `roundrobin` goes on, as a plan that was carried out says. */
  advanceRoundRobin(next: Plan['roundRobin']): void {
    for (const [name, roundRobin] of Object.entries(next)) {
      const options = { ...(this.#groups.get(name) ?? { name }), roundRobin };
      this.#groups.set(name, options);
      const group = this.#compiled?.groups.get(name);
      if (group) group.options = options;
    }
    this.#changed();
  }

  /** Does now what the next plan would do first. */
  compile(): void {
    void this.#cluster;
  }

  plan(now: number): Plan {
    return this.#plan(now);
  }

  /** What a session that waits knows: the code of its reason. */
  tell(sessionId: string, code: string): void {
    if (!this.#pending.has(sessionId)) return;
    this.#told.set(sessionId, code);
    this.#retell(sessionId);
  }

  toldTo(sessionId: string): string | undefined {
    return this.#told.get(sessionId);
  }

  /** What the plan has for sessions that do not know it yet, and when a reason ends by itself (Infinity: none does). */
  news(now: number): {
    readonly reasons: ReadonlyArray<{ sessionId: string } & WaitingReason>;
    readonly wakeAt: number;
  } {
    const { reasons } = this.#plan(now);
    // Some may have been told since it was made.
    const news = reasons.news.filter(({ sessionId, code }) => this.#told.get(sessionId) !== code);
    return { reasons: news, wakeAt: reasons.wakeAt };
  }

  #plan(now: number): PlanOfPass {
    const last = this.#lastPlan;
    if (last && last.now <= now && now < last.until) return last.plan;
    const plan = runPass(this.#cluster, now);
    this.#lastPlan = { now, until: unchangedUntil(this.#cluster, now), plan };
    return plan;
  }

  /** Why a session waits and what would help; undefined when it does not wait. */
  explain(sessionId: string, now: number, history?: GroupHistory): WaitingExplanation | undefined {
    return explainWaiting(this.#cluster, this.plan(now), sessionId, now, history);
  }

  /** Who would have to leave if a session were to start now; undefined: nobody may, or nobody has to. */
  previewPreemption(sessionId: string, now: number): Reservation | undefined {
    const waiting = this.#cluster.waiting.get(sessionId);
    return waiting && reservationNow(waiting, this.#cluster, now);
  }

  get #cluster(): Cluster {
    if (!this.#compiled) {
      this.#compiled = new Cluster(this.snapshot(0));
      for (const sessionId of this.#told.keys()) this.#retell(sessionId);
    }
    return this.#compiled;
  }

  #retell(sessionId: string): void {
    const waiting = this.#compiled?.waiting.get(sessionId);
    if (waiting) waiting.told = this.#told.get(sessionId);
  }

  #changed(): void {
    this.#lastPlan = undefined;
  }

  #compileAnew(): void {
    this.#compiled = undefined;
    this.#changed();
  }
}
