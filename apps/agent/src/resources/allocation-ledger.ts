import { addSlots, type ResourceSlots, slotsToTexts } from '@backend.ai/core';
import { type AllocationRequest, type AllocationRules, allocate, heldBy, slotsOf } from './allocate.ts';
import { type Allocation, capacityOf, type Inventory } from './inventory.ts';

/**
 * Who holds which devices of this machine. The manager keeps the books of the cluster; this one refuses what cannot be
 * true, and says which devices it is to be.
 *
 * What is held is always summed up from the allocations that are there: nothing is subtracted when one goes, so no
 * failure on the way can leave a wrong sum behind.
 */
export class AllocationLedger {
  readonly #rules: AllocationRules;
  readonly #held = new Map<string, Allocation>();
  #inventory: Inventory;

  constructor(inventory: Inventory, rules: AllocationRules = { strategy: 'evenly', affinity: 'interleaved' }) {
    this.#inventory = inventory;
    this.#rules = rules;
  }

  get inventory(): Inventory {
    return this.#inventory;
  }

  /** Devices have come or gone. What is held stays held. */
  set inventory(inventory: Inventory) {
    this.#inventory = inventory;
  }

  get capacity(): ResourceSlots {
    return capacityOf(this.#inventory);
  }

  get used(): ResourceSlots {
    return [...this.#held.values()].map(slotsOf).reduce(addSlots, {});
  }

  /** What is held of each device, by slot. */
  get heldDevices(): ReadonlyMap<string, ReadonlyMap<string, bigint>> {
    return heldBy(this.#held.values());
  }

  /** The same again if the holder has one already. @throws AppError `insufficient-capacity`, `invalid-input` */
  reserve(holder: string, request: AllocationRequest): Allocation {
    const present = this.#held.get(holder);
    if (present) return present;
    const allocation = allocate(this.#inventory, this.heldDevices, request, this.#rules);
    this.#held.set(holder, allocation);
    return allocation;
  }

  /** Books what is held already, whatever the capacity: kernels found after a restart. */
  hold(holder: string, allocation: Allocation): void {
    this.#held.set(holder, allocation);
  }

  /** The same for a kernel of which only the amounts are known: an earlier version wrote no devices down. */
  holdSomewhere(holder: string, slots: ResourceSlots): Allocation {
    try {
      return this.reserve(holder, { slots, allowFragmentation: true });
    } catch {
      const allocation = { slots: onNoDevice(slots), unified: {}, cpus: null };
      this.hold(holder, allocation);
      return allocation;
    }
  }

  release(holder: string): void {
    this.#held.delete(holder);
  }
}

/** Counted in sums, and on none of the devices. */
function onNoDevice(slots: ResourceSlots): Allocation['slots'] {
  return Object.fromEntries(Object.entries(slotsToTexts(slots)).map(([slot, amount]) => [slot, { unknown: amount }]));
}
