import type { Holding, Waiting } from './cluster.ts';
import type { Group } from './group.ts';
import { anywhere, type Choice, type Placing } from './placing.ts';
import type { DenseSlots } from './slot-table.ts';

const nobody: ReadonlySet<string> = new Set();

/** A session that holds something, and when it ends at the latest; absent: nobody knows. */
export interface Release {
  readonly endsAt: number | undefined;
  readonly kernels: ReadonlyArray<{ readonly agent: number; readonly slots: DenseSlots; readonly kernels: number }>;
}

/** When the head of a queue can start at the latest, and what it needs then. */
export interface HeadReservation {
  /** Infinity: nobody knows, as too few time limits are known. */
  readonly at: number;
  readonly choices: readonly Choice[];
}

/**
 * Sessions that hold something of a group, with their ends.
 * @param leaving Those that end now besides.
 */
export function releasesOf(group: Group, now: number, leaving: ReadonlySet<string> = nobody): Release[] {
  return [...group.holdings].map((holding) => ({
    endsAt: leaving.has(holding.session.sessionId) ? now : endOf(holding, now),
    kernels: holding.kernels.map((kernel) => ({ ...kernel, kernels: 1 })),
  }));
}

function endOf({ session }: Holding, now: number): number | undefined {
  const { ending, startedAt, timeLimitMs, awaitsVictims } = session;
  if (ending) return now;
  if (startedAt === undefined || timeLimitMs === undefined || awaitsVictims) return undefined;
  return Math.max(now, startedAt + timeLimitMs);
}

/**
 * When a session that lacks resources has room if everything ends at its limit and nothing else begins.
 * The table is as before afterwards.
 */
export function reserveFor(waiting: Waiting, releases: readonly Release[], placing: Placing): HeadReservation {
  const { table } = placing;
  const mark = table.mark();
  try {
    return new Releasing(releases, placing).roomFor(waiting);
  } finally {
    table.undo(mark);
  }
}

/** What becomes free as time goes on, if everything ends at its limit. The table goes along; who began undoes it. */
export class Releasing {
  readonly #placing: Placing;
  /** Those that are to come, the next one last. */
  readonly #releases: Release[];

  constructor(releases: readonly Release[], placing: Placing) {
    this.#placing = placing;
    this.#releases = releases.filter(({ endsAt }) => endsAt !== undefined).sort((a, b) => b.endsAt! - a.endsAt!);
  }

  /** Goes on until something that ends makes room, and takes it. */
  roomFor(waiting: Waiting): HeadReservation {
    const { table } = this.#placing;
    for (let next = this.#releases.at(-1); next; next = this.#releases.at(-1)) {
      const at = next.endsAt!;
      const released = new Set<number>();
      while (this.#releases.at(-1)?.endsAt === at) {
        for (const { agent, slots, kernels } of this.#releases.pop()!.kernels) {
          table.giveBack(agent, slots, kernels);
          released.add(agent);
        }
      }
      const helps = [...released].some((agent) =>
        waiting.shapes.some(
          (shape) => shape.kind.positions[agent]! >= 0 && this.#placing.hasRoom(waiting, agent, shape),
        ),
      );
      if (!helps) continue;
      const choices = this.#placing.place(waiting, anywhere);
      if (!('failed' in choices)) return { at, choices };
    }
    return { at: Number.POSITIVE_INFINITY, choices: [] };
  }

  /** It began, and ends as well. */
  begins({ session }: Waiting, at: number, choices: readonly Choice[]): void {
    if (session.timeLimitMs === undefined) return;
    const endsAt = at + session.timeLimitMs;
    const kernels = choices.map(({ agent, shape }) => ({ agent, slots: shape.slots, kernels: shape.kernels }));
    let index = this.#releases.length;
    while (index > 0 && this.#releases[index - 1]!.endsAt! < endsAt) index -= 1;
    this.#releases.splice(index, 0, { endsAt, kernels });
  }
}
