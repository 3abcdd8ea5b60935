import type { AgentTable } from './agent-table.ts';
import type { Waiting } from './cluster.ts';
import type { Gate } from './placing.ts';
import { countSession, withinQuotas } from './quota.ts';
import type { HeadReservation, Release } from './releases.ts';
import type { DenseSlots } from './slot-table.ts';

/**
 * Lets sessions pass that do not delay the head: those that end before it starts, and those that use what it does not need
 * then (EASY backfilling). A multi-node head, whose kernels might be laid out otherwise meanwhile, keeps all agents that
 * can hold one of its kernels for itself; so does one whose start nobody knows.
 */
export class BackfillGate implements Gate {
  readonly #head: Waiting;
  readonly #reservation: HeadReservation;
  readonly #now: number;
  /** What is left of the reserved agents when the head starts, by agent and column, and of kernels. */
  readonly #spare = new Map<number, { free: Float64Array; kernels: number }>();
  readonly #protected: ReadonlySet<number>;
  #taken: Array<() => void> = [];
  #endsInTime = false;

  constructor(
    head: Waiting,
    reservation: HeadReservation,
    table: AgentTable,
    releases: readonly Release[],
    now: number,
  ) {
    this.#head = head;
    this.#reservation = reservation;
    this.#now = now;
    const exclusive = head.shapes.length > 1 || !Number.isFinite(reservation.at);
    this.#protected = new Set(
      exclusive
        ? head.shapes.flatMap((shape) => [...shape.kind.agents].filter((agent) => table.fitsEmpty(agent, shape.slots)))
        : [],
    );
    if (exclusive) return;
    for (const { agent, shape } of reservation.choices) {
      const free = Float64Array.from(table.free, (column) => column[agent]!);
      let kernels = head.group.kernelLimit - table.kernels[agent]! - shape.kernels;
      for (const release of releases) {
        if (release.endsAt === undefined || release.endsAt > reservation.at) continue;
        for (const kernel of release.kernels) {
          if (kernel.agent !== agent) continue;
          kernels += kernel.kernels;
          addTo(free, kernel.slots, 1);
        }
      }
      addTo(free, shape.slots, -1);
      this.#spare.set(agent, { free, kernels });
    }
  }

  /** @returns Whether it may be tried at all. */
  consider(candidate: Waiting): boolean {
    const { timeLimitMs } = candidate.session;
    const { at } = this.#reservation;
    this.#endsInTime = timeLimitMs !== undefined && Number.isFinite(at) && this.#now + timeLimitMs <= at;
    return this.#endsInTime || this.#leavesQuota(candidate);
  }

  allows(agent: number, { slots, kernels }: { slots: DenseSlots; kernels: number }): boolean {
    if (this.#endsInTime) return true;
    if (this.#protected.has(agent)) return false;
    const spare = this.#spare.get(agent);
    if (!spare) return true;
    return kernels <= spare.kernels && slots.columns.every((column, i) => spare.free[column]! >= slots.amounts[i]!);
  }

  took(agent: number, { slots, kernels }: { slots: DenseSlots; kernels: number }): void {
    const spare = this.#spare.get(agent);
    if (!spare || this.#endsInTime) return;
    const add = (sign: 1 | -1): void => {
      addTo(spare.free, slots, sign);
      spare.kernels += sign * kernels;
    };
    add(-1);
    this.#taken.push(() => add(1));
  }

  settle(kept: boolean): void {
    if (!kept) for (const giveBack of this.#taken) giveBack();
    this.#taken = [];
  }

  /** Whether the head still keeps to its quotas when the candidate runs on. */
  #leavesQuota({ scopes, total, session }: Waiting): boolean {
    const shared = scopes.filter((scope) => this.#head.scopes.includes(scope));
    if (shared.length === 0) return true;
    countSession(shared, total, session.private ?? false, 1);
    const { scopes: headScopes, total: headTotal, session: head } = this.#head;
    const left = withinQuotas(headScopes, headTotal, head.private ?? false);
    countSession(shared, total, session.private ?? false, -1);
    return left;
  }
}

function addTo(free: Float64Array, { columns, amounts }: DenseSlots, sign: 1 | -1): void {
  for (let i = 0; i < columns.length; i++) free[columns[i]!]! += sign * amounts[i]!;
}
