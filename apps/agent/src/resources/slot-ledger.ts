import { AppError, addSlots, amountToText, lackingSlots, type ResourceSlots, subtractSlots } from '@backend.ai/core';

/** Who holds what of this machine. The manager keeps the books of the cluster; this one refuses what cannot be true. */
export class SlotLedger {
  readonly capacity: ResourceSlots;
  readonly #held = new Map<string, ResourceSlots>();
  #used: ResourceSlots = {};

  constructor(capacity: ResourceSlots) {
    this.capacity = capacity;
  }

  get used(): ResourceSlots {
    return this.#used;
  }

  /** Does nothing if the holder has them already. @throws AppError `insufficient-capacity` */
  reserve(holder: string, slots: ResourceSlots): void {
    if (this.#held.has(holder)) return;
    const free = subtractSlots(this.capacity, this.#used);
    const lacking = lackingSlots(slots, free);
    if (lacking.length > 0) {
      throw new AppError('insufficient-capacity', `This agent has too little free: ${lacking.join(', ')}.`, {
        data: Object.fromEntries(
          lacking.map((name) => [
            name,
            { wanted: amountToText(slots[name] ?? 0n), free: amountToText(positive(free[name])) },
          ]),
        ),
      });
    }
    this.hold(holder, slots);
  }

  /** Books what is held already, whatever the capacity: kernels found after a restart. */
  hold(holder: string, slots: ResourceSlots): void {
    if (this.#held.has(holder)) return;
    this.#held.set(holder, slots);
    this.#used = addSlots(this.#used, slots);
  }

  release(holder: string): void {
    const slots = this.#held.get(holder);
    if (!slots) return;
    this.#held.delete(holder);
    const rest = subtractSlots(this.#used, slots);
    this.#used = Object.fromEntries(Object.entries(rest).filter(([, amount]) => amount !== 0n));
  }
}

function positive(amount: bigint | undefined): bigint {
  return amount !== undefined && amount > 0n ? amount : 0n;
}
