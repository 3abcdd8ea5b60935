import type { AgentRecord } from '../../repositories/agents.ts';
import { type ImageOffer, offersOf } from '../images/image-offers.ts';

/** Whether it fetches images that registries have for an architecture. */
export function fetchesFor({ backend, architecture }: AgentRecord, wanted: string): boolean {
  return backend === 'docker' && architecture === wanted;
}

/** Agents as they were read together. */
export class KnownAgents {
  readonly list: readonly AgentRecord[];
  readonly byId: ReadonlyMap<string, AgentRecord>;
  #offers: readonly ImageOffer[] | undefined;
  #slotNames: ReadonlySet<string> | undefined;
  readonly #chosen = new Map<string, readonly AgentRecord[]>();

  constructor(list: readonly AgentRecord[]) {
    this.list = list;
    this.byId = new Map(list.map((agent) => [agent.id, agent]));
  }

  /** The images that they have. */
  get offers(): readonly ImageOffer[] {
    this.#offers ??= offersOf(this.list);
    return this.#offers;
  }

  /** Those that fetch images for their architecture. */
  fetching(architecture: string): readonly AgentRecord[] {
    return this.once(`fetch ${architecture}`, () => this.list.filter((agent) => fetchesFor(agent, architecture)));
  }

  /** Some of them, looked for when they are first asked for: every creation of a session asks for the same. */
  once(key: string, choose: () => readonly AgentRecord[]): readonly AgentRecord[] {
    let chosen = this.#chosen.get(key);
    if (!chosen) {
      chosen = choose();
      this.#chosen.set(key, chosen);
    }
    return chosen;
  }

  /** The resources of which one of them has something. */
  get slotNames(): ReadonlySet<string> {
    this.#slotNames ??= new Set(this.list.flatMap(({ capacity }) => Object.keys(capacity)));
    return this.#slotNames;
  }
}
