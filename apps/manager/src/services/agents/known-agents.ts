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
  readonly #fetching = new Map<string, readonly AgentRecord[]>();

  constructor(list: readonly AgentRecord[]) {
    this.list = list;
    this.byId = new Map(list.map((agent) => [agent.id, agent]));
  }

  /** The images that they have. */
  get offers(): readonly ImageOffer[] {
    this.#offers ??= offersOf(this.list);
    return this.#offers;
  }

  /** Those that fetch images for their architecture: every look for an image of a registry asks for them. */
  fetching(architecture: string): readonly AgentRecord[] {
    let found = this.#fetching.get(architecture);
    if (!found) {
      found = this.list.filter((agent) => fetchesFor(agent, architecture));
      this.#fetching.set(architecture, found);
    }
    return found;
  }

  /** The resources of which one of them has something. */
  get slotNames(): ReadonlySet<string> {
    this.#slotNames ??= new Set(this.list.flatMap(({ capacity }) => Object.keys(capacity)));
    return this.#slotNames;
  }
}
