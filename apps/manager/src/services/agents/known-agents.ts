import type { AgentRecord } from '../../repositories/agents.ts';
import { type ImageOffer, offersOf } from '../images/image-offers.ts';

/** Agents as they were read together. */
export class KnownAgents {
  readonly list: readonly AgentRecord[];
  readonly byId: ReadonlyMap<string, AgentRecord>;
  #offers: readonly ImageOffer[] | undefined;
  #slotNames: ReadonlySet<string> | undefined;

  constructor(list: readonly AgentRecord[]) {
    this.list = list;
    this.byId = new Map(list.map((agent) => [agent.id, agent]));
  }

  /** The images that they have. */
  get offers(): readonly ImageOffer[] {
    this.#offers ??= offersOf(this.list);
    return this.#offers;
  }

  /** The resources of which one of them has something. */
  get slotNames(): ReadonlySet<string> {
    this.#slotNames ??= new Set(this.list.flatMap(({ capacity }) => Object.keys(capacity)));
    return this.#slotNames;
  }
}
